"""What settling steps have in common: how far a step settles each job, the failures that it adds, its arguments.

The scripts read the arguments with `arguments.lua` and `settlement.lua`.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from shared import failure_fields, keys
from workers.runtime.claim import ClaimedJob

Argument: TypeAlias = str | bytes | int | float

# A callback with which this many workers died goes to the quarantine, an event at its handler becomes a dead letter.
MAX_DEATHS: Final = 3


class Settlement(Struct, frozen=True):
    """Items of one job that are settled: its progress before and after, and whether that ends the job."""

    claimed: ClaimedJob
    start: str
    end: str
    ends: bool


class NewFailure(Struct, frozen=True):
    """A quarantined callback or a dead letter to add: its hash's key, its id and time in the index, its fields.

    `lifetime_seconds` is when Redis deletes it should nothing of ours do so. It stands for `records` of the callback.
    """

    key: str
    failure_id: str
    time_ms: int
    lifetime_seconds: int
    fields: Mapping[str, Argument]
    kind: keys.CountedKind = "unknown"
    records: int = 1


class FanOutEvents(Struct, frozen=True, gc=False):
    """Adjacent events of a callback that the same handlers want, which `mask` says with a 0 or 1 for each.

    `marks` are those of the first event, then those of the second, and so on: as many of each. `events` are their JSON.
    """

    kind: keys.CountedKind
    mask: str
    marks: list[str]
    events: list[bytes]

    @property
    def records(self) -> int:
        """How many they are."""
        return len(self.events)

    def parts(self, size: int) -> "Iterator[FanOutEvents]":
        """Yield them in parts of up to `size` events."""
        return (self.part(first, first + size) for first in range(0, len(self.events), size))

    def part(self, first: int, last: int | None = None) -> "FanOutEvents":
        """Return the events from `first` up to, not including, `last`."""
        of_each = len(self.marks) // len(self.events)
        marks = self.marks[first * of_each : None if last is None else last * of_each]
        return FanOutEvents(self.kind, self.mask, marks, self.events[first:last])


class Replacement(Struct, frozen=True):
    """What takes the place of a job that failed: jobs, each with its id and fields, or failures of one `index`.

    The failures are dead letters of `handler`, or quarantined callbacks if it is None.
    """

    index: str
    jobs: Sequence[tuple[str, Mapping[str, Argument]]] = ()
    failures: Sequence[NewFailure] = ()
    handler: str | None = None

    def counters(self, failure: NewFailure) -> tuple[str, str]:
        """Return the names of two counters: that of failures of this kind, and that of dropped ones."""
        if self.handler is None:
            return keys.counter(failure.kind, "quarantined"), keys.counter(failure.kind, "dropped")
        return dead_letter_counters(self.handler, failure.kind)


def dead_letter_counters(handler: str, kind: keys.CountedKind) -> tuple[str, str]:
    """Return the names of a handler's counters of dead letters, and of dropped ones."""
    return keys.handler_counter(handler, kind, "dead"), keys.handler_counter(handler, kind, "dropped")


def settlement_arguments(run_id: str, settlements: Iterable[Settlement]) -> list[Argument]:
    """Return the first arguments of a script that settles: the run, a name for this call, and the settlements."""
    arguments: list[Argument] = [keys.job(run_id), uuid.uuid4().hex]
    append_list(
        arguments,
        [
            (
                keys.job(s.claimed.job_id),
                s.claimed.job_id,
                s.start,
                s.end,
                keys.coalesced(run_id) if s.ends and s.claimed.coalesced else "",
            )
            for s in settlements
        ],
    )
    return arguments


def failure_arguments(failure: NewFailure) -> tuple[Argument, ...]:
    """Return a failure as the scripts read it."""
    fields = flatten(failure_fields.seal(failure.key, failure.fields))
    return (failure.key, failure.failure_id, failure.time_ms, failure.lifetime_seconds, *fields)


def flatten(fields: Mapping[str, Argument]) -> tuple[Argument, ...]:
    """Return the fields of a hash as the scripts read a list: the number of words, then the words."""
    return (2 * len(fields), *(part for pair in fields.items() for part in pair))


def append_list(arguments: list[Argument], rows: Sequence[Sequence[Argument]]) -> None:
    """Append rows to a script's arguments: how many there are, then the words of each."""
    arguments.append(len(rows))
    for row in rows:
        arguments.extend(row)
