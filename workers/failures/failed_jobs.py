"""The failure ladder of whole jobs: what becomes of a job whose runs fail with an error that no single item explains.

It is retried with backoff, isolated from other jobs. If it fails isolated, each of its items becomes a job of its own,
which isolates the item that causes the error. If a job fails for an hour, what is left of it moves to the failures,
readable or not: callbacks to the quarantine, events to the dead letters of their handler. A job of a newer release
waits for that release, and one that is sealed with a key that this process does not have waits for the key.
"""

import contextlib
from typing import Final

import msgspec
import redis

from shared import batches, keys, progress, queue_jobs, queues, sealed_data
from shared.batches import Accepted
from shared.errors import find_cause
from workers.failures import dead_letters, quarantine
from workers.runtime import completion_journal
from workers.runtime import outcome as outcomes
from workers.runtime.completion_journal import Completions
from workers.runtime.settlement import NewFailure, Replacement

# The backoff is at most 60 seconds, so this is about an hour.
MAX_FAILURES: Final = 60
_SPLIT_AT: Final = 2
_WAITED_FOR: Final = (queues.NewerRelease, sealed_data.SealKeyMissing)


class FailedJob:
    """A job whose run has just failed, read from Redis. Raises redis.RedisError."""

    def __init__(self, connection: redis.Redis, queue: str, job_id: str) -> None:
        names = ("items", "progress", "failures", "waits", "finished")
        (self._stored,) = queue_jobs.read_stored(connection, [job_id], *names)
        items, settled, failures, waits, finished = self._stored.values
        self._queue, self._job_id = queue, job_id
        self._settled, done = _read_progress(settled)
        self.failures = _number(failures) - _number(waits) + 1
        self.remaining = max(0, _number(items) - done)
        self._finished = (finished or b"").decode()

    def is_waiting(self, error: BaseException) -> bool:
        """Return whether it only waits: another release, or a process that has the key, will read it."""
        return find_cause(error, _WAITED_FOR) is not None

    def replacement(self, error: BaseException, completions: Completions) -> Replacement | None:
        """Return what replaces the job, or None to retry it unchanged. `completions`: what its handler finished."""
        if self.is_waiting(error):
            return None
        if self.failures >= MAX_FAILURES:
            return self._move_to_failures(error)
        is_isolated = completions.keys() <= {self._job_id}
        # Such an error is the same for each item.
        is_of_redis = find_cause(error, redis.RedisError) is not None
        if self.failures < _SPLIT_AT or self.remaining <= 1 or not is_isolated or is_of_redis:
            return None
        return self._split(completions.get(self._job_id, frozenset()))

    def _split(self, finished_before: frozenset[int]) -> Replacement | None:
        skip = 0
        try:
            if self._queue == queues.EXPAND:
                kept, skip = self._remaining_callbacks()
                jobs = [batches.expand_job([callback]) for callback in kept]
                jobs[0] |= {"progress": skip}
            else:
                handler, attempt, events = self._remaining_events()
                finished = finished_before | completion_journal.parse_finished(self._finished)
                description = f"1 event for {handler}"
                jobs = [
                    queues.delivery_job(handler, [msgspec.json.encode(event)], attempt=attempt, description=description)
                    | ({"finished": f"{progress.to_text({0})};"} if position in finished else {})
                    for position, event in events.items()
                ]
        except Exception:  # noqa: BLE001 # of an unknown form: it stays whole, and moves to the failures whole
            return None
        if len(jobs) <= 1 or sum(int(fields["items"]) for fields in jobs) - skip != self.remaining:
            return None
        return Replacement(
            self._failure_index(), jobs=[(queues.new_job_id(), {**fields, "isolated": 1}) for fields in jobs]
        )

    def _move_to_failures(self, error: BaseException) -> Replacement | None:
        try:
            failures = self._item_failures(error)
        except _WAITED_FOR:
            return None
        except Exception:  # noqa: BLE001 # as above
            failures = []
        if sum(failure.records for failure in failures) != self.remaining:
            failures = [self._job_failure(error)]
        return Replacement(
            self._failure_index(), failures=failures, handler=None if self._queue == queues.EXPAND else self._handler()
        )

    def _item_failures(self, error: BaseException) -> list[NewFailure]:
        if self._queue == queues.EXPAND:
            kept, skip = self._remaining_callbacks()
            return [
                quarantine.from_failed_callback(callback, error, records=callback.records - (0 if number else skip))
                for number, callback in enumerate(kept)
            ]
        handler, attempt, events = self._remaining_events()
        outcome = outcomes.internal_error(error)
        return [dead_letters.from_unreadable(handler, event, outcome, attempts=attempt) for event in events.values()]

    def _job_failure(self, error: BaseException) -> NewFailure:
        if self._queue == queues.EXPAND:
            return quarantine.from_job(self._whole(), error, records=self.remaining)
        return dead_letters.from_job(self._handler(), self._job_id, self._whole(), error, records=self.remaining)

    def _whole(self) -> bytes:
        """Return all that is stored of the job, unsealed if it can be."""
        # Its portions may be deleted with it, also those that are there while another is missing.
        data, portions = self._stored.data or b"", self._stored.present
        # Whatever is wrong with it, it can be kept as it is stored.
        with contextlib.suppress(Exception):
            data, portions = queues.unseal_call(data), [queues.unseal_portion(portion) for portion in portions]
        return b"\n".join((data, *portions))

    def _remaining_callbacks(self) -> tuple[list[Accepted], int]:
        """Return the callbacks that are not settled, and how many records of the first one are."""
        _version, callbacks = self._stored.arguments()
        kept = [batches.decode_callback(callback) for callback in callbacks]
        skip = int(self._settled)
        while kept and skip >= kept[0].records:
            skip -= kept.pop(0).records
        return kept, skip

    def _remaining_events(self) -> tuple[str, int, dict[int, msgspec.Raw]]:
        # One damaged event must not keep the others from their handler.
        data, portions = self._stored.data or b"", self._stored.portions
        arguments = queues.parse_arguments(
            _with_damaged(queues.decompress(data)), None if portions is None else list(map(_with_damaged, portions))
        )
        _version, handler, attempt, events = arguments
        settled = progress.parse(self._settled)
        return handler, attempt, {position: event for position, event in enumerate(events) if position not in settled}

    def _handler(self) -> str:
        return self._queue.removeprefix(queues.delivery_queue(""))

    def _failure_index(self) -> str:
        return keys.QUARANTINE if self._queue == queues.EXPAND else keys.dead(self._handler())


def _with_damaged(text: bytes) -> bytes:
    return sealed_data.unseal(text, sealed_data.EVENTS, keep_damaged=True)


def _read_progress(text: bytes | None) -> tuple[str, int]:
    try:
        settled = (text or progress.NOTHING.encode()).decode()
        return settled, progress.count(settled)
    except ValueError:
        return progress.NOTHING, 0


def _number(text: bytes | None) -> int:
    return int(text) if text and text.isdigit() else 0
