"""Events are fanned out in chunks: the new ones are marked, counted and enqueued for each handler that wants them (I2).

A chunk holds items of one or more jobs, in order, and the ends of jobs; one step settles all of it.

One Lua script does all of it; this module knows the order of its arguments. What is done cannot be undone, so the step
waits while Redis is unavailable, and a second call after a lost answer changes nothing.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Self, TypeAlias

import msgspec
import redis
from msgspec import Struct

from shared import keys, live, queues, sealed_data
from shared.batches import Accepted
from workers.expand.forgotten import ForgottenRecords
from workers.runtime import headroom, scripts
from workers.runtime.claim import ClaimedJob
from workers.runtime.headroom import Headroom
from workers.runtime.redis_retry import never_stopping, retry_while_unavailable
from workers.runtime.run_errors import StaleRun
from workers.runtime.settlement import (
    Argument,
    FanOutEvents,
    NewFailure,
    Settlement,
    append_list,
    failure_arguments,
    flatten,
    settlement_arguments,
)

_encode: Final = msgspec.json.Encoder().encode
# Small compared with a chunk: a chunk is full as soon as the next item may not fit.
MAX_ITEM_EVENTS: Final = 10

# What records of a callback were read as.
RecordResult: TypeAlias = FanOutEvents | NewFailure


class FanOutGroup(Struct, frozen=True):
    """Events with the same mask that were fanned out together: how many, and how many of them were new."""

    mask: str
    total: int
    new: int


class FanOutResult(Struct, frozen=True):
    """What one step made of events; `groups` is empty if its answer was lost and it was sent again.

    `duplicates` are the positions of the events that are repeats, first to last.
    `reused` is how many of the new replies have a `req_uuid` that another reply had before.
    """

    new: int
    duplicates: tuple[int, ...]
    groups: tuple[FanOutGroup, ...]
    reused: int = 0


class ChunkItem(Struct, frozen=True, gc=False):
    """Records of the callback `origin`, as they were read, with the job and its progress before them.

    Without records, it is the end of the job.
    """

    claimed: ClaimedJob
    start: int
    origin: Accepted | None = None
    read: RecordResult | ForgottenRecords | None = None

    @property
    def end(self) -> int:
        """The job's progress after the item."""
        return self.start if self.read is None else self.start + self.read.records

    def halves(self) -> tuple[Self, Self] | None:
        """Return the first and the second half of its events; None if it has no two."""
        if not isinstance(self.read, FanOutEvents) or self.read.records == 1:
            return None
        middle = self.read.records // 2
        return (
            msgspec.structs.replace(self, read=self.read.part(0, middle)),
            msgspec.structs.replace(self, start=self.start + middle, read=self.read.part(middle)),
        )


class Chunk:
    """Items that are settled together: up to `max_events` events and failures, or `max_bytes` of events and one item.

    `offers` are its events, `unreadable` its records that go to the quarantine, `forgotten` those that are dropped, as
    they mention a forgotten number.
    """

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events, self._max_bytes = max_events, max_bytes
        self.items: list[ChunkItem] = []
        self.offers: list[FanOutEvents] = []
        self.unreadable: list[NewFailure] = []
        self.forgotten: list[ForgottenRecords] = []
        self._events = self._bytes = 0
        self._claimed: ClaimedJob | None = None
        # The positions of the first item of each job.
        self._firsts: list[int] = []

    def add(self, item: ChunkItem) -> bool:
        """Add the item that follows the last one; return whether no further item may be added."""
        items, read = self.items, item.read
        if item.claimed is not self._claimed:
            self._claimed = item.claimed
            self._firsts.append(len(items))
        items.append(item)
        if isinstance(read, FanOutEvents):
            self.offers.append(read)
            self._events += len(read.events)
            self._bytes += sum(map(len, read.events))
        else:
            self._events += 1
            if isinstance(read, NewFailure):
                self.unreadable.append(read)
            elif read is not None:
                self.forgotten.append(read)
        return self._events + MAX_ITEM_EVENTS > self._max_events or self._bytes >= self._max_bytes

    def with_items(self, *items: ChunkItem) -> Self:
        """Return a chunk with the same limits and these items."""
        chunk = type(self)(max_events=self._max_events, max_bytes=self._max_bytes)
        for item in items:
            chunk.add(item)
        return chunk

    def halves(self) -> tuple[Self, Self] | None:
        """Return its first and its second half; None if it cannot be split.

        Fanned out one after the other, they have the same effect.
        """
        if len(self.items) > 1:
            middle = len(self.items) // 2
            return self.with_items(*self.items[:middle]), self.with_items(*self.items[middle:])
        halves = self.items[0].halves()
        return None if halves is None else (self.with_items(halves[0]), self.with_items(halves[1]))

    def settlements(self) -> list[Settlement]:
        """Return the progress of each job, before and after."""
        found: list[Settlement] = []
        for begin, end in itertools.pairwise([*self._firsts, len(self.items)]):
            first, last = self.items[begin], self.items[end - 1]
            found.append(Settlement(first.claimed, str(first.start), str(last.end), ends=last.read is None))
        return found


class FanOutStep:
    """The script, loaded over one connection. `is_stopping()` says whether the worker was asked to stop."""

    def __init__(self, connection: redis.Redis, *, is_stopping: Callable[[], bool] = never_stopping) -> None:
        self._is_stopping = is_stopping
        self._headroom = Headroom(partial(headroom.read_memory, connection))
        self._live = (live.channel(connection), live.MAX_EVENTS_PER_SECOND, live.MAX_BYTES_PER_SECOND)
        self._script = connection.register_script(
            scripts.load(
                *("types", "arguments", "clock", "portions", "settlement", "enqueue", "marks"),
                *("expand/live", "expand/fan_out"),
            )
        )

    def wait_for_room(self) -> bool:
        """Wait until Redis has room for a fan-out; return False if the worker has to stop before."""
        return self._headroom.wait_for_fan_out(is_stopping=self._is_stopping)

    def fan_out(
        self,
        *,
        run_id: str,
        settlements: Iterable[Settlement],
        mark_seconds: int,
        handlers: Iterable[str],
        max_events: int,
        events: Sequence[FanOutEvents],
        unreadable: Sequence[NewFailure],
        forgotten: Sequence[ForgottenRecords] = (),
    ) -> FanOutResult:
        """Enqueue the new ones of `events` for the handlers that want them, and quarantine what is `unreadable`.

        What is `forgotten` is counted.

        `handlers`: their names, in the order of the events' masks. A job has at most `max_events`. Raise ValueError if
        a mark is not a digest of the usual size, StaleRun if another run has settled any of these items, and
        redis.RedisError.
        """
        arguments = settlement_arguments(run_id, settlements)
        names, groups = list(handlers), _group_events(events)
        marks = [mark for group in groups.values() for position in group for mark in events[position].marks]
        encoded = [[event for position in group for event in events[position].events] for group in groups.values()]
        arguments += (
            mark_seconds,
            keys.seen_handlers(names),
            keys.seen_marks(marks),
            int(len(set(marks)) == len(marks)),
        )
        arguments += (*self._live, queues.new_step_id(), max_events, keys.job(""))
        append_list(arguments, [_handler_arguments(name) for name in names])
        append_list(
            arguments,
            [
                (
                    *traits,
                    *_texts(
                        those,
                        handler=_only_handler(names, traits[1]),
                        max_events=max_events,
                        is_only_group=len(groups) == 1,
                    ),
                )
                for traits, those in zip(groups, encoded, strict=True)
            ],
        )
        append_list(arguments, [(failure.kind, failure.records, *failure_arguments(failure)) for failure in unreadable])
        append_list(arguments, [(keys.counter(one.kind, "forgotten"), one.records) for one in forgotten])
        arguments.append(keys.REUSED_REQ_UUIDS)
        is_current, *numbers = retry_while_unavailable(
            lambda: self._script(
                keys=[keys.COUNTS, keys.RQ_QUEUES, keys.QUARANTINE, keys.LIVE, keys.SEEN], args=arguments
            ),
            is_stopping=self._is_stopping,
        )
        if not is_current:
            raise StaleRun
        new, duplicates, new_of_groups, reused = numbers
        results = tuple(
            FanOutGroup(mask, len(those), number)
            for (_, mask, _), those, number in zip(groups, encoded, new_of_groups, strict=False)
        )
        order = _positions_in_groups(events, groups) if duplicates else []
        return FanOutResult(new, tuple(sorted(order[position - 1] for position in duplicates)), results, reused)


def _handler_arguments(handler: str) -> tuple[Argument, ...]:
    queue = queues.delivery_queue(handler)
    return handler, keys.rq_queue(queue), *queues.delivery_ends(handler), *flatten(queues.script_job_fields(queue))


def _group_events(events: Sequence[FanOutEvents]) -> dict[tuple[str, str, int], list[int]]:
    """Return the positions of those that have the same kind, mask and number of marks, by these."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    for position, one in enumerate(events):
        groups.setdefault((one.kind, one.mask, len(one.marks) // len(one.events)), []).append(position)
    return groups


def _only_handler(names: Sequence[str], mask: str) -> str | None:
    """Return the handler that wants events with this mask, if it is one alone."""
    wanting = [name for name, bit in zip(names, mask, strict=False) if bit == "1"]
    return wanting[0] if len(wanting) == 1 else None


def _positions_in_groups(
    events: Sequence[FanOutEvents], groups: Mapping[tuple[str, str, int], Iterable[int]]
) -> list[int]:
    """Return, for each event in the order of the groups, which of all events it is."""
    firsts = [0, *itertools.accumulate(one.records for one in events)]
    return [each for group in groups.values() for one in group for each in range(firsts[one], firsts[one + 1])]


def _texts(events: Sequence[bytes], *, handler: str | None, max_events: int, is_only_group: bool) -> list[Argument]:
    """Return a group's events as the script reads them: in a few texts, each of which fills a job if all are new.

    As many strings, they would take half of the script's time. Each event is sealed by itself, as the script leaves out
    repeats. What will be all of a job, if all are new, is given as the job's data, so that the script has nothing to
    put together: not events that several handlers share, nor a few, which share a job with events of other groups.
    """
    events = sealed_data.seal_each(events, sealed_data.EVENTS)
    rows: list[tuple[Argument, ...]] = []
    for first in range(0, len(events), max_events):
        part = events[first : first + max_events]
        lengths, json = _encode([*map(len, part)]), b",".join(part)
        if handler is not None and (is_only_group or len(part) == max_events):
            head, tail = queues.delivery_ends(handler)
            rows.append((len(part), lengths, "data", b"%b%b%b" % (head, json, tail)))
        else:
            rows.append((len(part), lengths, "json", json))
    arguments: list[Argument] = []
    append_list(arguments, rows)
    return arguments
