"""What was set aside, the quarantine and the dead letters: listed, shown, replayed, dropped.

Replaying is the normal way: a quarantined callback becomes a batch that is expanded and deduped like any other, a dead
letter a delivery to its own handler, and to no other. Each step is atomic and keeps the audit's sum.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import redis
from msgspec import Struct
from rq.utils import as_text

from shared import batches, events, json_reader, keys, queues, wire
from shared.errors import CallbacksError, NotJson, UnexpectedShape
from workers.failures import failure
from workers.failures.failure import (
    DeadLetter,
    DeadLetterRow,
    FailureNotFound,
    QuarantinedCallback,
    QuarantineRow,
    StillUnreadable,
)
from workers.failures.failure_list import QUARANTINE, Argument, FailureList, dead_letters_of, handler_names
from workers.failures.retention import TrimScript
from workers.runtime import scripts

_ROWS_PER_READ: Final = 500
# Bodies and events are read some at a time; one of them alone may be as large as the largest callback.
_FAILURES_PER_READ: Final = 100
_BYTES_PER_READ: Final = 8 << 20


class ListSnapshot(Struct, frozen=True):
    """All that stands on a shelf at a moment: how many entries, and the time in ms of the newest.

    What comes in later is newer and not part of it. Only what was received earlier (by a host whose clock is behind,
    or into a spool) and comes in while all is worked on, may be.
    """

    size: int
    until_ms: float


Selection: TypeAlias = Sequence[str] | ListSnapshot


class StepResult(Struct, frozen=True):
    """A part of what was to be done: with how many entries it is (`done`), and with which it could not be, and why."""

    done: int
    failed: tuple[tuple[str, CallbacksError], ...] = ()


class ReplayPlan(Struct, frozen=True):
    """How an entry is replayed: the queue, the fields of the job that enters it, by how much which counters change."""

    queue: str
    job: Mapping[str, Any]
    changes: Mapping[str, int]


class FailureStore:
    """All shelves over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        # Any, as redis-py's types of answers say bytes or str, and here they are always bytes.
        self._connection: Any = connection
        self._replay_script = connection.register_script(scripts.load("types", "enqueue", "failures/replay"))
        self._drop_script = connection.register_script(scripts.load("types", "failures/drop_failure", "failures/drop"))
        self._trim = TrimScript(connection)

    def handler_names(self) -> list[str]:
        """Give the names of all handlers that ever had an event."""
        return handler_names(self._connection)

    def count(self, failure_list: FailureList) -> int:
        """Count what stands on a shelf."""
        return int(self._connection.zcard(failure_list.index))

    def snapshot(self, failure_list: FailureList) -> ListSnapshot:
        """Give all that stands on a shelf now."""
        # No transaction: Redis takes none while it is full, and that is when entries are dropped.
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.zcard(failure_list.index)
            pipe.zrange(failure_list.index, 0, 0, desc=True, withscores=True)
            size, newest = pipe.execute()
        return ListSnapshot(size, newest[0][1] if newest else 0)

    def list_quarantine(self, *, skip: int = 0, limit: int | None = None) -> Iterator[QuarantineRow]:
        """Give the quarantined callbacks, oldest first, from the place `first` on; read as they are asked for."""
        for failure_id, values in self._iterate_rows(QUARANTINE, failure.QUARANTINE_ROW_FIELDS, skip, limit):
            yield failure.parse_quarantine_row(failure_id, values)

    def list_dead_letters(self, handler: str, *, skip: int = 0, limit: int | None = None) -> Iterator[DeadLetterRow]:
        """Give a handler's dead letters, oldest first, from the place `first` on; read as they are asked for."""
        for event_id, values in self._iterate_rows(
            dead_letters_of(handler), failure.DEAD_LETTER_ROW_FIELDS, skip, limit
        ):
            yield failure.parse_dead_letter_row(handler, event_id, values)

    def read_quarantined(self, failure_id: str) -> QuarantinedCallback:
        """Give one quarantined callback. Raises FailureNotFound."""
        ((_, values),) = read_fields(self._connection, QUARANTINE, [failure_id], failure.QUARANTINED_CALLBACK_FIELDS)
        return failure.parse_quarantined_callback(failure_id, _require_found(values))

    def read_dead_letter(self, handler: str, event_id: str) -> DeadLetter:
        """Give one dead letter. Raises FailureNotFound and StillUnreadable."""
        ((_, values),) = read_fields(self._connection, dead_letters_of(handler), [event_id], failure.DEAD_LETTER_FIELDS)
        return failure.parse_dead_letter(handler, event_id, _require_found(values))

    def replay(self, failure_list: FailureList, chosen: Selection) -> Iterator[StepResult]:
        """Send entries on their normal way again. Works as it is iterated; gives a Progressed for each part.

        In `failed` is what cannot be read, which stays where it is (StillUnreadable), and what was chosen by its id and
        is not there (FailureNotFound).
        """
        if not isinstance(chosen, ListSnapshot):
            yield from self._replay_ids(failure_list, chosen)
            return
        for ids in self._iterate_ids(failure_list, chosen):
            for part in self._replay_ids(failure_list, ids):
                # What has left the shelf since the start, by its age or by another's hand, is nobody's failure.
                yield StepResult(part.done, tuple(f for f in part.failed if not isinstance(f[1], FailureNotFound)))

    def drop(self, failure_list: FailureList, chosen: Selection) -> Iterator[StepResult]:
        """Drop entries for good, counted as dropped. Works as it is iterated; gives a Progressed for each part.

        In `failed` is what was chosen by its id and is not there (FailureNotFound).
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
        for part in self._read_batches(failure_list, ids):
            plans: list[tuple[str, ReplayPlan]] = []
            failed: list[tuple[str, CallbacksError]] = []
            names = failure.QUARANTINED_CALLBACK_FIELDS if failure_list.handler is None else failure.DEAD_LETTER_FIELDS
            for failure_id, values in read_fields(self._connection, failure_list, part, names):
                try:
                    plans.append((failure_id, _plan_replay(failure_list, failure_id, _require_found(values))))
                except CallbacksError as exc:
                    failed.append((failure_id, exc))
            with self._connection.pipeline(transaction=False) as pipe:
                for failure_id, plan in plans:
                    self._replay_script(
                        keys=_replay_keys(failure_list, failure_id),
                        args=_replay_arguments(failure_id, plan),
                        client=pipe,
                    )
                reply = pipe.execute()
            gone = [
                (failure_id, FailureNotFound()) for (failure_id, _), done in zip(plans, reply, strict=True) if not done
            ]
            yield StepResult(len(plans) - len(gone), (*failed, *gone))

    def _iterate_ids(self, failure_list: FailureList, snapshot: ListSnapshot) -> Iterator[list[str]]:
        """Give the ids of all that stood there, some at a time, in no order.

        Redis promises of ZSCAN that it gives all that stands there from its first call to its last.
        """
        cursor = 0
        while True:
            cursor, found = self._connection.zscan(failure_list.index, cursor, count=_ROWS_PER_READ)
            yield [as_text(member) for member, time_ms in found if time_ms <= snapshot.until_ms]
            if not cursor:
                return

    def _read_batches(self, failure_list: FailureList, ids: Sequence[str]) -> Iterator[list[str]]:
        """Cut `ids` where the entries together become too many, or too large, to be read at once."""
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

    def _iterate_rows(
        self, failure_list: FailureList, names: Sequence[str], skip: int, limit: int | None
    ) -> Iterator[tuple[str, list[bytes]]]:
        given = 0
        while limit is None or given < limit:
            number = _ROWS_PER_READ if limit is None else min(_ROWS_PER_READ, limit - given)
            members = self._connection.zrange(failure_list.index, skip, skip + number - 1)
            if not members:
                return
            for failure_id, values in read_fields(self._connection, failure_list, list(map(as_text, members)), names):
                if values[0] is not None:  # else Redis has let it go, and it leaves the index with the next trimming
                    yield failure_id, values
            skip, given = skip + len(members), given + len(members)


def read_fields(
    connection: redis.Redis, failure_list: FailureList, ids: Iterable[str], names: Sequence[str]
) -> Iterator[tuple[str, list[Any]]]:
    """Give these fields of these entries; None for each that is not there. Raises redis.RedisError."""
    chosen = tuple(ids)
    with connection.pipeline(transaction=False) as pipe:
        for failure_id in chosen:
            pipe.hmget(keys.failure(failure_list.index, failure_id), list(names))
        yield from zip(chosen, pipe.execute(), strict=True)


def _require_found(values: Sequence[bytes]) -> Sequence[bytes]:
    if values[0] is None:
        raise FailureNotFound
    return values


def _plan_replay(failure_list: FailureList, failure_id: str, values: Sequence[bytes]) -> ReplayPlan:
    """Tell how an entry is replayed. Raises StillUnreadable."""
    if failure_list.handler is None:
        return _plan_expansion(failure.parse_quarantined_callback(failure_id, values))
    return _plan_delivery(failure.parse_dead_letter(failure_list.handler, failure_id, values))


def _plan_expansion(entry: QuarantinedCallback) -> ReplayPlan:
    shape = _check_shape(entry)
    kept = batches.Accepted(
        shape.kind, entry.source, entry.received_ms, shape.records, json_reader.decode_text(entry.body)
    )
    changes: Counter[str] = Counter()
    # It was received as what it seemed to be then, and is now what it is.
    changes[keys.counter(batches.counted_kind(entry.kind), "received")] -= entry.records
    changes[keys.counter(batches.counted_kind(entry.kind), "quarantined")] -= entry.records
    changes[keys.counter(batches.counted_kind(shape.kind), "received")] += shape.records
    return ReplayPlan(queues.EXPAND, batches.expand_job([kept]), changes)


def _plan_delivery(letter: DeadLetter) -> ReplayPlan:
    job = queues.delivery_job(
        letter.handler, [events.encode(letter.event)], description=f"1 event for {letter.handler}, replayed"
    )
    changes = {keys.handler_counter(letter.handler, letter.event.kind, "dead"): -1}
    return ReplayPlan(queues.delivery_queue(letter.handler), job, changes)


def _check_shape(entry: QuarantinedCallback) -> wire.Shape:
    """Tell what the body is now: of the kind whose URL it came to, or, if that cannot be, of the other."""
    why: CallbacksError = StillUnreadable()
    kinds: tuple[wire.Kind | None, ...] = (None,) if entry.kind is None else (entry.kind, None)
    for kind in kinds:
        try:
            shape = wire.check(entry.body, kind)
        except (NotJson, UnexpectedShape) as exc:
            why = exc
        else:
            if len(shape.faults) < shape.records:
                return shape
    raise StillUnreadable(str(why))


def _replay_keys(failure_list: FailureList, failure_id: str) -> list[str]:
    bytes_key = keys.failures_bytes(failure_list.index)
    return [keys.failure(failure_list.index, failure_id), failure_list.index, bytes_key, keys.COUNTS, keys.RQ_QUEUES]


def _replay_arguments(failure_id: str, plan: ReplayPlan) -> list[Argument]:
    job_id = queues.new_job_id()
    arguments: list[Argument] = [failure_id, len(plan.changes)]
    arguments += itertools.chain.from_iterable(plan.changes.items())
    arguments += (keys.rq_queue(plan.queue), keys.job(job_id), job_id)
    arguments += itertools.chain.from_iterable(plan.job.items())
    return arguments


def _chunks(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (ids[first : first + size] for first in range(0, len(ids), size))
