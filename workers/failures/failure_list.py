"""A shelf: where entries are set aside, the quarantine or the dead letters of one handler; its keys and its counters.

Each has an index by time, a hash for each entry, and the sum of their bytes. What leaves it changes all three and the
counters in one step, so the audit's sum comes out whenever anybody is killed.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias

import redis
from msgspec import Struct
from rq.utils import as_text

from shared import batches, keys, wire

Argument: TypeAlias = str | bytes | int

# As `kind` stands in a quarantined callback's hash.
_CALLBACKS: Final[tuple[wire.Kind | None, ...]] = (None, "status", "reply")
_EVENTS: Final[tuple[keys.CountedKind, ...]] = ("report", "reply", "unknown")


class FailureList(Struct, frozen=True):
    """One list. `drop_counters`: for each kind, the counter that falls and the one that rises with a drop."""

    index: str
    handler: str | None
    drop_counters: tuple[tuple[str, str, str], ...]

    @property
    def name(self) -> str:
        """What the log calls it."""
        return "quarantine" if self.handler is None else f"dead:{self.handler}"

    @property
    def drop_keys(self) -> list[str]:
        """The keys that the scripts behind drop_failure.lua work on."""
        return [self.index, keys.failures_bytes(self.index), keys.COUNTS]

    @property
    def drop_arguments(self) -> list[Argument]:
        """The arguments with which they begin."""
        return [
            keys.failure(self.index, ""),
            len(self.drop_counters),
            *(word for kind in self.drop_counters for word in kind),
        ]


QUARANTINE: Final = FailureList(
    keys.QUARANTINE,
    None,
    tuple(
        (
            kind or "",
            keys.counter(batches.counted_kind(kind), "quarantined"),
            keys.counter(batches.counted_kind(kind), "dropped"),
        )
        for kind in _CALLBACKS
    ),
)


def dead_letters_of(handler: str) -> FailureList:
    """Give the shelf of a handler's dead letters."""
    return FailureList(
        keys.dead(handler),
        handler,
        tuple(
            (kind, keys.handler_counter(handler, kind, "dead"), keys.handler_counter(handler, kind, "dropped"))
            for kind in _EVENTS
        ),
    )


def handler_names(connection: redis.Redis) -> list[str]:
    """Give the names of all handlers that ever had an event. Raises redis.RedisError."""
    return keys.handler_names(map(as_text, connection.hkeys(keys.COUNTS)))


def all_lists(connection: redis.Redis) -> Iterator[FailureList]:
    """Give all shelves there are, those of handlers that are configured no more too. Raises redis.RedisError."""
    yield QUARANTINE
    yield from map(dead_letters_of, handler_names(connection))
