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

from shared import batches, events, keys, queues, wire
from shared.errors import CallbacksError, NotJson, UnexpectedShape
from workers.failures import failure
from workers.failures.failure import (
    DeadLetter,
    DeadLetterRow,
    NotThere,
    QuarantineEntry,
    QuarantineRow,
    StillUnreadable,
)
from workers.failures.failure_list import QUARANTINE, Argument, Shelf, dead_letters_of, handlers
from workers.failures.retention import TrimScript
from workers.runtime import scripts

_ROWS_A_READ: Final = 500
# Bodies and events are read some at a time; one of them alone may be as large as the largest callback.
_ENTRIES_A_READ: Final = 100
_BYTES_A_READ: Final = 8 << 20


class Standing(Struct, frozen=True):
    """All that stands on a shelf at a moment: how many entries, and the time in ms of the newest.

    What comes in later is newer and not part of it. Only what was received earlier (by a host whose clock is behind,
    or into a spool) and comes in while all is worked on, may be.
    """

    size: int
    until_ms: float


Chosen: TypeAlias = Sequence[str] | Standing


class Progressed(Struct, frozen=True):
    """A part of what was to be done: with how many entries it is (`done`), and with which it could not be, and why."""

    done: int
    failed: tuple[tuple[str, CallbacksError], ...] = ()


class WayBack(Struct, frozen=True):
    """How an entry is replayed: the queue, the fields of the job that enters it, by how much which counters change."""

    queue: str
    job: Mapping[str, Any]
    changes: Mapping[str, int]


class Shelves:
    """All shelves over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        # Any, as redis-py's types of answers say bytes or str, and here they are always bytes.
        self._connection: Any = connection
        self._replay = connection.register_script(scripts.load("types", "failures/replay"))
        self._drop = connection.register_script(scripts.load("types", "failures/dropping", "failures/drop"))
        self._trim = TrimScript(connection)

    def handlers(self) -> list[str]:
        """Give the names of all handlers that ever had an event."""
        return handlers(self._connection)

    def size(self, shelf: Shelf) -> int:
        """Count what stands on a shelf."""
        return int(self._connection.zcard(shelf.index))

    def standing(self, shelf: Shelf) -> Standing:
        """Give all that stands on a shelf now."""
        # No transaction: Redis takes none while it is full, and that is when entries are dropped.
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.zcard(shelf.index)
            pipe.zrange(shelf.index, 0, 0, desc=True, withscores=True)
            size, newest = pipe.execute()
        return Standing(size, newest[0][1] if newest else 0)

    def quarantine(self, *, first: int = 0, most: int | None = None) -> Iterator[QuarantineRow]:
        """Give the quarantined callbacks, oldest first, from the place `first` on; read as they are asked for."""
        for entry_id, values in self._rows(QUARANTINE, failure.QUARANTINE_ROW, first, most):
            yield failure.quarantine_row(entry_id, values)

    def dead(self, handler: str, *, first: int = 0, most: int | None = None) -> Iterator[DeadLetterRow]:
        """Give a handler's dead letters, oldest first, from the place `first` on; read as they are asked for."""
        for event_id, values in self._rows(dead_letters_of(handler), failure.DEAD_LETTER_ROW, first, most):
            yield failure.dead_letter_row(handler, event_id, values)

    def quarantined(self, entry_id: str) -> QuarantineEntry:
        """Give one quarantined callback. Raises NotThere."""
        ((_, values),) = read(self._connection, QUARANTINE, [entry_id], failure.QUARANTINE_ENTRY)
        return failure.quarantine_entry(entry_id, _there(values))

    def dead_letter(self, handler: str, event_id: str) -> DeadLetter:
        """Give one dead letter. Raises NotThere and StillUnreadable."""
        ((_, values),) = read(self._connection, dead_letters_of(handler), [event_id], failure.DEAD_LETTER)
        return failure.dead_letter(handler, event_id, _there(values))

    def replay(self, shelf: Shelf, chosen: Chosen) -> Iterator[Progressed]:
        """Send entries on their normal way again. Works as it is iterated; gives a Progressed for each part.

        In `failed` is what cannot be read, which stays where it is (StillUnreadable), and what was chosen by its id and
        is not there (NotThere).
        """
        if not isinstance(chosen, Standing):
            yield from self._replay_named(shelf, chosen)
            return
        for ids in self._ids(shelf, chosen):
            for part in self._replay_named(shelf, ids):
                # What has left the shelf since the start, by its age or by another's hand, is nobody's failure.
                yield Progressed(part.done, tuple(f for f in part.failed if not isinstance(f[1], NotThere)))

    def drop(self, shelf: Shelf, chosen: Chosen) -> Iterator[Progressed]:
        """Drop entries for good, counted as dropped. Works as it is iterated; gives a Progressed for each part.

        In `failed` is what was chosen by its id and is not there (NotThere).
        """
        if isinstance(chosen, Standing):
            more = True
            while more:
                trimmed = self._trim.run(shelf, until_ms=chosen.until_ms)
                more = trimmed.more
                yield Progressed(trimmed.old)
            return
        for ids in _parts(chosen, _ENTRIES_A_READ):
            told = self._drop(keys=shelf.keys_to_drop, args=[*shelf.arguments_to_drop, *ids])
            failed = [(entry_id, NotThere()) for entry_id, done in zip(ids, told, strict=True) if not done]
            yield Progressed(len(ids) - len(failed), tuple(failed))

    def _replay_named(self, shelf: Shelf, ids: Sequence[str]) -> Iterator[Progressed]:
        for part in self._readable_at_once(shelf, ids):
            ways: list[tuple[str, WayBack]] = []
            failed: list[tuple[str, CallbacksError]] = []
            names = failure.QUARANTINE_ENTRY if shelf.handler is None else failure.DEAD_LETTER
            for entry_id, values in read(self._connection, shelf, part, names):
                try:
                    ways.append((entry_id, _way_back(shelf, entry_id, _there(values))))
                except CallbacksError as exc:
                    failed.append((entry_id, exc))
            with self._connection.pipeline(transaction=False) as pipe:
                for entry_id, way in ways:
                    self._replay(keys=_keys_to_replay(shelf, entry_id), args=_arguments(entry_id, way), client=pipe)
                told = pipe.execute()
            gone = [(entry_id, NotThere()) for (entry_id, _), done in zip(ways, told, strict=True) if not done]
            yield Progressed(len(ways) - len(gone), (*failed, *gone))

    def _ids(self, shelf: Shelf, standing: Standing) -> Iterator[list[str]]:
        """Give the ids of all that stood there, some at a time, in no order.

        Redis promises of ZSCAN that it gives all that stands there from its first call to its last.
        """
        cursor = 0
        while True:
            cursor, found = self._connection.zscan(shelf.index, cursor, count=_ROWS_A_READ)
            yield [as_text(member) for member, time_ms in found if time_ms <= standing.until_ms]
            if not cursor:
                return

    def _readable_at_once(self, shelf: Shelf, ids: Sequence[str]) -> Iterator[list[str]]:
        """Cut `ids` where the entries together become too many, or too large, to be read at once."""
        portion: list[str] = []
        held = 0
        for part in _parts(ids, _ROWS_A_READ):
            for entry_id, (size,) in read(self._connection, shelf, part, ("bytes",)):
                size_bytes = int(size or 0)
                if portion and (len(portion) == _ENTRIES_A_READ or held + size_bytes > _BYTES_A_READ):
                    yield portion
                    portion, held = [], 0
                portion.append(entry_id)
                held += size_bytes
        if portion:
            yield portion

    def _rows(
        self, shelf: Shelf, names: Sequence[str], first: int, most: int | None
    ) -> Iterator[tuple[str, list[bytes]]]:
        given = 0
        while most is None or given < most:
            number = _ROWS_A_READ if most is None else min(_ROWS_A_READ, most - given)
            members = self._connection.zrange(shelf.index, first, first + number - 1)
            if not members:
                return
            for entry_id, values in read(self._connection, shelf, list(map(as_text, members)), names):
                if values[0] is not None:  # else Redis has let it go, and it leaves the index with the next trimming
                    yield entry_id, values
            first, given = first + len(members), given + len(members)


def read(
    connection: redis.Redis, shelf: Shelf, ids: Iterable[str], names: Sequence[str]
) -> Iterator[tuple[str, list[Any]]]:
    """Give these fields of these entries; None for each that is not there. Raises redis.RedisError."""
    chosen = tuple(ids)
    with connection.pipeline(transaction=False) as pipe:
        for entry_id in chosen:
            pipe.hmget(keys.failure(shelf.index, entry_id), list(names))
        yield from zip(chosen, pipe.execute(), strict=True)


def _there(values: Sequence[bytes]) -> Sequence[bytes]:
    if values[0] is None:
        raise NotThere
    return values


def _way_back(shelf: Shelf, entry_id: str, values: Sequence[bytes]) -> WayBack:
    """Tell how an entry is replayed. Raises StillUnreadable."""
    if shelf.handler is None:
        return _expanded(failure.quarantine_entry(entry_id, values))
    return _delivered(failure.dead_letter(shelf.handler, entry_id, values))


def _expanded(entry: QuarantineEntry) -> WayBack:
    shape = _shape(entry)
    kept = batches.Accepted(shape.kind, entry.source, entry.received_ms, shape.records, wire.decode_text(entry.body))
    changes: Counter[str] = Counter()
    # It was received as what it seemed to be then, and is now what it is.
    changes[keys.counter(batches.counted_kind(entry.kind), "received")] -= entry.records
    changes[keys.counter(batches.counted_kind(entry.kind), "quarantined")] -= entry.records
    changes[keys.counter(batches.counted_kind(shape.kind), "received")] += shape.records
    return WayBack(queues.EXPAND, batches.expand_job([kept]), changes)


def _delivered(letter: DeadLetter) -> WayBack:
    job = queues.delivery_job(
        letter.handler, [events.encode(letter.event)], description=f"1 event for {letter.handler}, replayed"
    )
    changes = {keys.handler_counter(letter.handler, letter.event.kind, "dead"): -1}
    return WayBack(queues.delivery_queue(letter.handler), job, changes)


def _shape(entry: QuarantineEntry) -> wire.Shape:
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


def _keys_to_replay(shelf: Shelf, entry_id: str) -> list[str]:
    bytes_key = keys.failures_bytes(shelf.index)
    return [keys.failure(shelf.index, entry_id), shelf.index, bytes_key, keys.COUNTS, keys.RQ_QUEUES]


def _arguments(entry_id: str, way: WayBack) -> list[Argument]:
    job_id = queues.new_job_id()
    arguments: list[Argument] = [entry_id, len(way.changes)]
    arguments += itertools.chain.from_iterable(way.changes.items())
    arguments += (keys.rq_queue(way.queue), keys.job(job_id), job_id)
    arguments += itertools.chain.from_iterable(way.job.items())
    return arguments


def _parts(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (ids[first : first + size] for first in range(0, len(ids), size))
