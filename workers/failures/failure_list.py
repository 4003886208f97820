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


class Shelf(Struct, frozen=True):
    """One shelf. `dropped` names, for each kind of entry, the counter that falls and the one that rises with a drop."""

    index: str
    handler: str | None
    dropped: tuple[tuple[str, str, str], ...]

    @property
    def name(self) -> str:
        """What the log calls it."""
        return "quarantine" if self.handler is None else f"dead:{self.handler}"

    @property
    def keys_to_drop(self) -> list[str]:
        """The keys that the scripts behind dropping.lua work on."""
        return [self.index, keys.failures_bytes(self.index), keys.COUNTS]

    @property
    def arguments_to_drop(self) -> list[Argument]:
        """The arguments with which they begin."""
        return [keys.failure(self.index, ""), len(self.dropped), *(word for kind in self.dropped for word in kind)]


QUARANTINE: Final = Shelf(
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


def dead_letters_of(handler: str) -> Shelf:
    """Give the shelf of a handler's dead letters."""
    return Shelf(
        keys.dead(handler),
        handler,
        tuple(
            (kind, keys.handler_counter(handler, kind, "dead"), keys.handler_counter(handler, kind, "dropped"))
            for kind in _EVENTS
        ),
    )


def handlers(connection: redis.Redis) -> list[str]:
    """Give the names of all handlers that ever had an event. Raises redis.RedisError."""
    return keys.handler_names(map(as_text, connection.hkeys(keys.COUNTS)))


def every(connection: redis.Redis) -> Iterator[Shelf]:
    """Give all shelves there are, those of handlers that are configured no more too. Raises redis.RedisError."""
    yield QUARANTINE
    yield from map(dead_letters_of, handlers(connection))
