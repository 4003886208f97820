"""A list of failures, the quarantine or the dead letters of one handler: its keys and its counters.

Each list has an index by time, a hash for each failure, and the sum of their bytes. Removing a failure changes all
three and the counters in one step, so the audit balances whichever process is killed.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias

import redis
from msgspec import Struct
from rq.utils import as_text

from shared import batches, keys
from shared.schema import Kind

Argument: TypeAlias = str | bytes | int

# The values of `kind` in a quarantined callback's hash.
_CALLBACKS: Final[tuple[Kind | None, ...]] = (None, "status", "reply")
_EVENTS: Final[tuple[keys.CountedKind, ...]] = ("report", "reply", "unknown")


class FailureList(Struct, frozen=True):
    """One list. `drop_counters`: for each kind, the counter that falls and the one that rises when one is dropped."""

    index: str
    handler: str | None
    drop_counters: tuple[tuple[str, str, str], ...]

    @property
    def name(self) -> str:
        """The name of the list in logs and actions."""
        return "quarantine" if self.handler is None else f"dead:{self.handler}"

    @property
    def drop_keys(self) -> list[str]:
        """The keys of the scripts that begin with drop_failure.lua."""
        return [self.index, keys.failures_bytes(self.index), keys.COUNTS]

    @property
    def drop_arguments(self) -> list[Argument]:
        """The first arguments of these scripts."""
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
    """Return the list of a handler's dead letters."""
    return FailureList(
        keys.dead(handler),
        handler,
        tuple(
            (kind, keys.handler_counter(handler, kind, "dead"), keys.handler_counter(handler, kind, "dropped"))
            for kind in _EVENTS
        ),
    )


def handler_names(connection: redis.Redis) -> list[str]:
    """Return the names of all handlers that ever had an event. Raise redis.RedisError."""
    return keys.handler_names(map(as_text, connection.hkeys(keys.COUNTS)))


def all_lists(connection: redis.Redis) -> Iterator[FailureList]:
    """Yield all lists, also of handlers that are no longer configured. Raise redis.RedisError."""
    yield QUARANTINE
    yield from map(dead_letters_of, handler_names(connection))
