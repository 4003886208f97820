"""What a supervisor knows of the handlers when it starts: their names and filters, and what is wrong with the others.

Their settings are not read here: that is the business of each handler's own workers.
"""

import logging
from collections.abc import Sequence
from typing import Final

import redis
from msgspec import Struct

from workers import registry
from workers.expand import filters_store
from workers.filters import Filters, from_handler
from workers.runtime.redis_retry import retry_while_unavailable

log = logging.getLogger("callbacks.supervisor")

# Of a handler whose module cannot be imported now, so that nobody knows its own.
_TIMEOUT_SECONDS: Final = 30.0


class KnownHandlers(Struct, frozen=True):
    """The filters of the handlers of each entry of CALLBACKS_HANDLERS, and what is wrong with other entries."""

    filters: dict[str, tuple[Filters, ...]]
    timeouts: dict[str, float]
    problems: list[str]

    @property
    def by_name(self) -> dict[str, tuple[str, Filters]]:
        """Each handler by its name: the entry that brings it, and its filters."""
        return {one.name: (entry, one) for entry, found in self.filters.items() for one in found}

    def timeout_seconds(self, name: str) -> float:
        """Return how long a call of this handler may take."""
        return self.timeouts.get(name, _TIMEOUT_SECONDS)


def load(entries: Sequence[str], connection: redis.Redis) -> KnownHandlers:
    """Import the handlers' modules, each by itself, and say what is wrong with one.

    Of one that cannot be imported, what it brought when it last could is known. Of one that never could nothing is, and
    its events are not offered to it, as if it were not named. `connection` is used for that only.
    """
    found = registry.load_each(entries, with_settings=False)
    imported = {
        entry: tuple(from_handler(handler) for handler in handlers) for entry, handlers in found.handlers.items()
    }
    names_imported = {filters.name for handlers in imported.values() for filters in handlers}
    stored = {
        # A handler that has moved to a module that could be imported is what it is there.
        entry: tuple(filters for filters in handlers if filters.name not in names_imported)
        for entry, handlers in (
            _load_stored_filters(connection, list(found.problems)) if found.problems else {}
        ).items()
    }
    for entry, error in found.problems.items():
        names = ",".join(filters.name for filters in stored.get(entry, ()))
        log.error(
            "action=handler_import_failed entry=%s handlers=%s error=%s", entry, names or "unknown", error.problem
        )
    known = stored | imported
    return KnownHandlers(
        filters={entry: known[entry] for entry in dict.fromkeys(entries) if entry in known},
        timeouts={handler.name: handler.timeout_seconds for each in found.handlers.values() for handler in each},
        problems=[problem for error in found.problems.values() for problem in error.problems],
    )


def _load_stored_filters(connection: redis.Redis, entries: Sequence[str]) -> dict[str, tuple[Filters, ...]]:
    """Return what Redis holds of `entries`; wait while it is unavailable: without it, events would bypass them."""
    return retry_while_unavailable(lambda: filters_store.load(connection, entries))
