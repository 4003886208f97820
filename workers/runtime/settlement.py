"""What the atomic steps of `settling` take and give: shares of jobs, what is settled of them, what comes of that."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from shared import keys

Argument: TypeAlias = str | bytes | int | float

# So many workers may die of one callback, or of one event at its handler; then it is set aside.
MAX_DEATHS: Final = 3


class ClaimedJob(Struct, frozen=True):
    """A job's share of a run: its id, what of it was settled before (see `shared.progress`), its arguments.

    `coalesced` says that the job was coalesced, so its hash is ours to delete; the running job's is RQ's. Its data
    has `size_bytes`; that of the running job is not counted. `items` is how many it was enqueued with, 0 if that is
    unknown. `deaths` counts the workers that died in the midst of it since it last made progress; `finished` are the
    places of what a handler did in their hands. `is_probe` says of the running job that its handler's pause is over, if
    one event, which this run has to try first, goes well.
    """

    job_id: str
    progress: str
    arguments: list[Any]
    coalesced: bool
    size_bytes: int = 0
    deaths: int = 0
    finished: frozenset[int] = frozenset()
    is_probe: bool = False
    items: int = 0


class Settlement(Struct, frozen=True):
    """Items of one job that are settled: its progress before and after, and whether that ends the job."""

    claimed: ClaimedJob
    start: str
    end: str
    ends: bool


class DeliveryPlan(Struct, frozen=True):
    """How to enqueue events for one handler: most events for one job, and ids for as many jobs as it may take."""

    handler: str
    max_events: int
    job_ids: tuple[str, ...]


class FanOutEvent(Struct, frozen=True, gc=False):
    """An event offered to the handlers: its marks, the handlers that want it as a mask of 0 and 1, its JSON."""

    kind: keys.CountedKind
    marks: tuple[str, ...]
    mask: str
    event: bytes


class FanOutGroup(Struct, frozen=True):
    """Events of one mask that were offered together: how many, and how many of them were new."""

    mask: str
    offered: int
    new: int


class FanOutResult(Struct, frozen=True):
    """What one step made of events; `groups` is empty where its answer got lost and it was asked again.

    `reused` are the new replies whose `req_uuid` another reply had before.
    """

    new: int
    duplicate: int
    groups: tuple[FanOutGroup, ...]
    reused: int = 0


class NewFailure(Struct, frozen=True):
    """An entry of the quarantine or of the dead letters: the hash's key, its id and time in the index, its fields."""

    key: str
    failure_id: str
    time_ms: int
    lifetime_seconds: int
    fields: Mapping[str, Argument]
    kind: keys.CountedKind = "unknown"
    records: int = 1


# One record of a batch, read: an event to offer; or what to set aside, which stands for `records` of them.
Item: TypeAlias = FanOutEvent | NewFailure


class Replacement(Struct, frozen=True):
    """What takes the place of a job that failed: jobs, each with its id and fields, or entries of an index.

    The entries are dead letters of `handler`, or quarantined callbacks where that is None.
    """

    index: str
    jobs: Sequence[tuple[str, Mapping[str, Argument]]] = ()
    entries: Sequence[NewFailure] = ()
    handler: str | None = None

    def counters(self, entry: NewFailure) -> tuple[str, str]:
        """Return the counter of entries of this kind, and that of dropped ones."""
        if self.handler is None:
            return keys.counter(entry.kind, "quarantined"), keys.counter(entry.kind, "dropped")
        return keys.handler_counter(self.handler, entry.kind, "dead"), keys.handler_counter(
            self.handler, entry.kind, "dropped"
        )


class ScheduledRetry(Struct, frozen=True):
    """A job that is to run later: its id, when (unix seconds), and the fields of its hash."""

    job_id: str
    due: float
    fields: Mapping[str, Argument]


class PauseChange(Struct, frozen=True):
    """What a settlement says of its handler's pause (see `workers/deliver/settle.lua`): "" is nothing.

    "paused": the handler asked for `after_seconds`, or, by "memory", Redis has no room for its failures. Of the probe:
    it was "resumed", "failed", or came to no call.
    """

    kind: Literal["", "paused", "resumed", "failed", "untried"] = ""
    after_seconds: float = 0.0
    reason: str = ""
    by: Literal["handler", "memory"] = "handler"


NO_CHANGE: Final = PauseChange()


class SettleResult(Struct, frozen=True):
    """What a settlement found: whether the handler is paused now, and whether this settlement did or ended that.

    `seconds` is how long the pause lasts that it set, or lasted that it ended.
    """

    is_paused: bool
    change: Literal["", "paused", "resumed"]
    seconds: float


def failure_arguments(entry: NewFailure) -> tuple[Argument, ...]:
    """Return an entry as the scripts read it."""
    return (entry.key, entry.failure_id, entry.time_ms, entry.lifetime_seconds, *flatten(entry.fields))


def flatten(fields: Mapping[str, Argument]) -> tuple[Argument, ...]:
    """Return the fields of a hash as the scripts read a list: how many words, and the words."""
    return (2 * len(fields), *(part for pair in fields.items() for part in pair))


def append_list(arguments: list[Argument], entries: Sequence[Sequence[Argument]]) -> None:
    """Add entries to a script's arguments: how many, and the words of each."""
    arguments.append(len(entries))
    for entry in entries:
        arguments.extend(entry)
