"""The failure ladder of whole jobs: what becomes of one whose runs fail by an error that no single item of it explains.

It is tried again, later each time and alone. If it fails alone, each of its items becomes a job of its own, so that the
one that does it is alone at last. If that goes on for an hour, what is left of the job is set aside, readable or not:
callbacks in the quarantine, events as dead letters of their handler. A job of a newer release waits for that release.
"""

from typing import Any, Final

import msgspec
import redis

from shared import batches, keys, progress, queues
from shared.batches import Accepted
from workers.failures import dead_letters, quarantine
from workers.runtime import completion_journal
from workers.runtime import outcome as outcomes
from workers.runtime.completion_journal import Completions
from workers.runtime.settlement import NewFailure, Replacement

# The waits between them are 60 seconds at most, so this is about an hour.
MOST_FAILURES: Final = 60
_SPLIT_AT: Final = 2


class FailedJob:
    """A job whose run has just failed, read from Redis. Raises redis.RedisError."""

    def __init__(self, connection: redis.Redis, queue: str, job_id: str) -> None:
        names = ("data", "items", "progress", "failures", "finished")
        found: Any = connection.hmget(keys.job(job_id), list(names))
        data, items, settled, failures, finished = found
        self._queue, self._job_id = queue, job_id
        self._data: bytes = data or b""
        self._settled, done = _progress(settled)
        self.failures = _number(failures) + 1
        self.left = max(0, _number(items) - done)
        self._finished = (finished or b"").decode()

    def substitute(self, error: BaseException, notes: Completions) -> Replacement | None:
        """Return what takes its place, or None: it is tried again as it is. `notes`: what its handler has finished."""
        if isinstance(error, queues.NewerRelease):
            return None
        if self.failures >= MOST_FAILURES:
            return self._set_aside(error)
        # What Redis refuses, it refuses for each item alike.
        is_alone = notes.keys() <= {self._job_id}
        if self.failures < _SPLIT_AT or self.left <= 1 or not is_alone or _is_refused(error):
            return None
        return self._split(notes.get(self._job_id, frozenset()))

    def _split(self, noted: frozenset[int]) -> Replacement | None:
        skip = 0
        try:
            if self._queue == queues.EXPAND:
                kept, skip = self._callbacks()
                jobs = [batches.expand_job([callback]) for callback in kept]
                jobs[0] |= {"progress": skip}
            else:
                handler, attempt, events = self._events()
                finished = noted | completion_journal.parse_finished(self._finished)
                about = f"1 event for {handler}"
                jobs = [
                    queues.delivery_job(handler, [msgspec.json.encode(event)], attempt=attempt, description=about)
                    | ({"finished": f"{progress.to_text({0})};"} if place in finished else {})
                    for place, event in events.items()
                ]
        except Exception:  # noqa: BLE001 # of a form that nobody knows: it stays one, and is set aside as one
            return None
        if len(jobs) <= 1 or sum(int(fields["items"]) for fields in jobs) - skip != self.left:
            return None
        return Replacement(self._index(), jobs=[(queues.new_job_id(), {**fields, "isolated": 1}) for fields in jobs])

    def _set_aside(self, error: BaseException) -> Replacement:
        try:
            entries = self._entries(error)
        except Exception:  # noqa: BLE001 # as above
            entries = []
        if sum(entry.records for entry in entries) != self.left:
            entries = [self._whole(error)]
        return Replacement(
            self._index(), entries=entries, handler=None if self._queue == queues.EXPAND else self._handler()
        )

    def _entries(self, error: BaseException) -> list[NewFailure]:
        if self._queue == queues.EXPAND:
            kept, skip = self._callbacks()
            return [
                quarantine.failed(callback, error, records=callback.records - (0 if number else skip))
                for number, callback in enumerate(kept)
            ]
        handler, attempt, events = self._events()
        outcome = outcomes.internal_error(error)
        return [dead_letters.of_array(handler, event, outcome, attempts=attempt) for event in events.values()]

    def _whole(self, error: BaseException) -> NewFailure:
        if self._queue == queues.EXPAND:
            return quarantine.job(self._data, error, records=self.left)
        return dead_letters.of_job(self._handler(), self._job_id, self._data, error, records=self.left)

    def _callbacks(self) -> tuple[list[Accepted], int]:
        """Return the callbacks that are not settled whole, and how many records of the first are."""
        _version, callbacks = queues.parse_arguments(self._data)
        kept = msgspec.convert(callbacks, list[Accepted])
        skip = int(self._settled)
        while kept and skip >= kept[0].records:
            skip -= kept.pop(0).records
        return kept, skip

    def _events(self) -> tuple[str, int, dict[int, Any]]:
        _version, handler, attempt, events = queues.parse_arguments(self._data)
        settled = progress.parse(self._settled)
        return handler, attempt, {place: event for place, event in enumerate(events) if place not in settled}

    def _handler(self) -> str:
        return self._queue.removeprefix(queues.delivery_queue(""))

    def _index(self) -> str:
        return keys.QUARANTINE if self._queue == queues.EXPAND else keys.dead(self._handler())


def _is_refused(error: BaseException | None) -> bool:
    """Return whether it was Redis that refused what was asked of it."""
    return error is not None and (isinstance(error, redis.RedisError) or _is_refused(error.__cause__))


def _progress(text: bytes | None) -> tuple[str, int]:
    try:
        settled = (text or progress.NOTHING.encode()).decode()
        return settled, progress.count(settled)
    except ValueError:
        return progress.NOTHING, 0


def _number(text: bytes | None) -> int:
    return int(text) if text and text.isdigit() else 0
