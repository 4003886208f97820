"""The failures: read, replay and drop quarantined callbacks and dead letters. `workers.failures.iteration` lists them.

Each replay and each drop is one atomic step that keeps the audit balanced.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import redis
from msgspec import Struct
from rq.utils import as_text

from shared import failure_fields, keys
from shared.errors import CallbacksError
from workers.failures import failure
from workers.failures.failure import (
    DeadLetter,
    DeadLetterSummary,
    FailureNotFound,
    QuarantinedCallback,
    StillUnreadable,
)
from workers.failures.failure_list import QUARANTINE, FailureList, dead_letters_of, handler_names
from workers.failures.replay import ReplayPlan, ReplayScript, plan_replay
from workers.failures.retention import TrimScript
from workers.runtime import scripts

_ROWS_PER_READ: Final = 500
# Bodies and events are read in batches; a single one may be as large as the largest callback.
_FAILURES_PER_READ: Final = 100
_BYTES_PER_READ: Final = 8 << 20


class ListSnapshot(Struct, frozen=True):
    """All failures of a list at a moment: how many, and the time of the newest in ms since 1970.

    Failures that are added later are newer and not part of it; except those of callbacks that were received earlier,
    by a host whose clock is behind or into a spool.
    """

    size: int
    until_ms: float


Selection: TypeAlias = Sequence[str] | ListSnapshot


class StepResult(Struct, frozen=True):
    """The result of a step: how many failures were replayed or dropped, and the ids of the others with their errors.

    `replayed` are the ids of those that were replayed.
    """

    done: int
    failed: tuple[tuple[str, CallbacksError], ...] = ()
    replayed: tuple[str, ...] = ()


class FailureStore:
    """All lists of failures over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        # Any, as redis-py types replies as bytes or str, and here they are always bytes.
        self._connection: Any = connection
        self._replay_script = ReplayScript(connection)
        self._drop_script = connection.register_script(scripts.load("types", "failures/drop_failure", "failures/drop"))
        self._trim = TrimScript(connection)

    def handler_names(self) -> list[str]:
        """Return the names of all handlers that ever had an event."""
        return handler_names(self._connection)

    def count(self, failure_list: FailureList) -> int:
        """Return how many failures a list has."""
        return int(self._connection.zcard(failure_list.index))

    def snapshot(self, failure_list: FailureList) -> ListSnapshot:
        """Return a snapshot of all failures that a list has now."""
        # Not a transaction: Redis accepts none while it is full, and that is when failures are dropped.
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.zcard(failure_list.index)
            pipe.zrange(failure_list.index, 0, 0, desc=True, withscores=True)
            size, newest = pipe.execute()
        return ListSnapshot(size, newest[0][1] if newest else 0)

    def read_summaries(self, handler: str, ids: Sequence[str]) -> Iterator[DeadLetterSummary]:
        """Yield a handler's dead letters with these ids, in this order, without those that are gone."""
        for event_id, values in self._read_dead_letters(handler, ids):
            yield failure.parse_dead_letter_summary(handler, event_id, values)

    def read_letters(self, handler: str, ids: Sequence[str]) -> Iterator[DeadLetter | DeadLetterSummary]:
        """Yield the same as whole dead letters; a summary of one that a newer release wrote."""
        for event_id, values in self._read_dead_letters(handler, ids):
            try:
                yield failure.parse_dead_letter(handler, event_id, values)
            except StillUnreadable:
                yield failure.parse_dead_letter_summary(handler, event_id, values)

    def read_stored_event(self, handler: str, event_id: str) -> bytes:
        """Return the event of a dead letter as it is stored. Raise FailureNotFound."""
        ((_, values),) = read_fields(self._connection, dead_letters_of(handler), [event_id], ("event",))
        return _require_found(values)[0]

    def read_quarantined(self, failure_id: str) -> QuarantinedCallback:
        """Return one quarantined callback. Raise FailureNotFound."""
        ((_, values),) = read_fields(self._connection, QUARANTINE, [failure_id], failure.QUARANTINED_CALLBACK_FIELDS)
        return failure.parse_quarantined_callback(failure_id, _require_found(values))

    def read_dead_letter(self, handler: str, event_id: str) -> DeadLetter:
        """Return one dead letter. Raise FailureNotFound and StillUnreadable."""
        ((_, values),) = read_fields(self._connection, dead_letters_of(handler), [event_id], failure.DEAD_LETTER_FIELDS)
        return failure.parse_dead_letter(handler, event_id, _require_found(values))

    def replay(self, failure_list: FailureList, chosen: Selection) -> Iterator[StepResult]:
        """Replay failures. Works while it is iterated; yields one StepResult per step.

        `failed` has those that cannot be read and stay where they are (StillUnreadable), and those that were named by
        their ids and are not there (FailureNotFound).
        """
        if not isinstance(chosen, ListSnapshot):
            yield from self._replay_ids(failure_list, chosen)
            return
        for ids in self._iterate_ids(failure_list, chosen):
            for part in self._replay_ids(failure_list, ids):
                # A failure that was dropped or replayed since the snapshot is not an error.
                failed = tuple(f for f in part.failed if not isinstance(f[1], FailureNotFound))
                yield StepResult(part.done, failed, part.replayed)

    def drop(self, failure_list: FailureList, chosen: Selection) -> Iterator[StepResult]:
        """Drop failures permanently, counted as dropped. Works while it is iterated; yields one StepResult per step.

        `failed` has those that were named by their ids and are not there (FailureNotFound).
        """
        if isinstance(chosen, ListSnapshot):
            more = True
            while more:
                trimmed = self._trim.run(failure_list, until_ms=chosen.until_ms)
                more = trimmed.more
                yield StepResult(trimmed.old)
            return
        for ids in _chunks(chosen, _FAILURES_PER_READ):
            reply = self._drop_script(keys=failure_list.drop_keys, args=[*failure_list.drop_arguments, *ids])
            failed = [(failure_id, FailureNotFound()) for failure_id, done in zip(ids, reply, strict=True) if not done]
            yield StepResult(len(ids) - len(failed), tuple(failed))

    def _replay_ids(self, failure_list: FailureList, ids: Sequence[str]) -> Iterator[StepResult]:
        for part in self.read_batches(failure_list, ids):
            plans: list[tuple[str, ReplayPlan]] = []
            failed: list[tuple[str, CallbacksError]] = []
            names = failure.QUARANTINED_CALLBACK_FIELDS if failure_list.handler is None else failure.DEAD_LETTER_FIELDS
            for failure_id, values in read_fields(self._connection, failure_list, part, names):
                try:
                    plans.append((failure_id, plan_replay(failure_list, failure_id, _require_found(values))))
                except CallbacksError as exc:
                    failed.append((failure_id, exc))
            found = self._replay_script.run(failure_list, plans)
            replayed = tuple(failure_id for (failure_id, _), done in zip(plans, found, strict=True) if done)
            gone = [
                (failure_id, FailureNotFound()) for (failure_id, _), done in zip(plans, found, strict=True) if not done
            ]
            yield StepResult(len(replayed), (*failed, *gone), replayed)

    def _read_dead_letters(self, handler: str, ids: Sequence[str]) -> Iterator[tuple[str, Sequence[bytes]]]:
        failure_list = dead_letters_of(handler)
        for batch in self.read_batches(failure_list, ids):
            for event_id, values in read_fields(self._connection, failure_list, batch, failure.DEAD_LETTER_FIELDS):
                if values[0] is not None:  # otherwise it was dropped or replayed meanwhile
                    yield event_id, values

    def _iterate_ids(self, failure_list: FailureList, snapshot: ListSnapshot) -> Iterator[list[str]]:
        """Yield the ids of a snapshot in batches, in no order.

        ZSCAN returns every member that is in the index from its first call to its last.
        """
        cursor = 0
        while True:
            cursor, found = self._connection.zscan(failure_list.index, cursor, count=_ROWS_PER_READ)
            yield [as_text(member) for member, time_ms in found if time_ms <= snapshot.until_ms]
            if not cursor:
                return

    def read_batches(self, failure_list: FailureList, ids: Sequence[str]) -> Iterator[list[str]]:
        """Yield `ids` in batches that are neither too many nor too large to be read at once."""
        batch: list[str] = []
        batch_bytes = 0
        for part in _chunks(ids, _ROWS_PER_READ):
            for failure_id, (size,) in read_fields(self._connection, failure_list, part, ("bytes",)):
                size_bytes = int(size or 0)
                if batch and (len(batch) == _FAILURES_PER_READ or batch_bytes + size_bytes > _BYTES_PER_READ):
                    yield batch
                    batch, batch_bytes = [], 0
                batch.append(failure_id)
                batch_bytes += size_bytes
        if batch:
            yield batch


def read_fields(
    connection: redis.Redis, failure_list: FailureList, ids: Iterable[str], names: Sequence[str]
) -> Iterator[tuple[str, list[Any]]]:
    """Yield these fields of these failures, each with its id; None for each missing field. Raise redis.RedisError.

    What is sealed is opened; a field that cannot be is `sealed_field.Unopened`.
    """
    key_of = {failure_id: keys.failure(failure_list.index, failure_id) for failure_id in ids}
    with connection.pipeline(transaction=False) as pipe:
        for key in key_of.values():
            pipe.hmget(key, [*names, failure_fields.PLAIN])
        for (failure_id, key), (*values, plain) in zip(key_of.items(), pipe.execute(), strict=True):
            yield failure_id, failure_fields.unseal(key, names, values, plain)


def _require_found(values: Sequence[bytes]) -> Sequence[bytes]:
    if values[0] is None:
        raise FailureNotFound
    return values


def _chunks(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (ids[first : first + size] for first in range(0, len(ids), size))
