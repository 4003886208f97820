"""The handlers that a supervisor knows when it starts: their names and filters, and what is wrong with the others.

Events go to the queue of a handler even while its module cannot be imported: so none is lost, and no other handler has
to wait. For that, the filters of each entry of CALLBACKS_HANDLERS are saved in Redis as they were when its module could
last be imported: a field for each entry in `cb:filters`, the JSON array of its handlers' filters.

The handlers' settings are not read here: only each handler's own workers read them.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import redis
from msgspec import Struct

from shared import keys
from shared.structured_log import get_logger
from workers import registry
from workers.filters import Filters, from_handler
from workers.runtime.redis_retry import retry_while_unavailable

log = get_logger("callbacks.supervisor")

# For a handler whose module cannot be imported now, so that its own time-out is unknown.
_TIMEOUT_SECONDS: Final = 30.0


class KnownHandlers(Struct, frozen=True):
    """The filters of the handlers of each entry of CALLBACKS_HANDLERS, and what is wrong with other entries."""

    filters: dict[str, tuple[Filters, ...]]
    timeouts: dict[str, float]
    problems: list[str]

    @property
    def by_name(self) -> dict[str, tuple[str, Filters]]:
        """Each handler by its name: its entry and its filters."""
        return {one.name: (entry, one) for entry, found in self.filters.items() for one in found}

    def timeout_seconds(self, name: str) -> float:
        """Return how long a call of this handler may take."""
        return self.timeouts.get(name, _TIMEOUT_SECONDS)


def load(entries: Sequence[str], connection: redis.Redis) -> KnownHandlers:
    """Import the handlers' modules, each independently, and report what is wrong with each.

    For an entry that cannot be imported, the filters that were saved last are used. If none were saved, its handlers
    get no events, as if it were not named. `connection` is used for these filters only.
    """
    found = registry.load_each(entries, with_settings=False)
    imported = {
        entry: tuple(from_handler(handler) for handler in handlers) for entry, handlers in found.handlers.items()
    }
    names_imported = {filters.name for handlers in imported.values() for filters in handlers}
    saved = _load_filters(connection, list(found.problems)) if found.problems else {}
    stored = {
        # A handler that has moved to a module that could be imported has the filters of that module.
        entry: tuple(filters for filters in handlers if filters.name not in names_imported)
        for entry, handlers in saved.items()
    }
    for entry, error in found.problems.items():
        names = ",".join(filters.name for filters in stored.get(entry, ())) or "unknown"
        log.error("handler_import_failed", entry=entry, handlers=names, error=error.problem)
    known = stored | imported
    return KnownHandlers(
        filters={entry: known[entry] for entry in dict.fromkeys(entries) if entry in known},
        timeouts={handler.name: handler.timeout_seconds for each in found.handlers.values() for handler in each},
        problems=[problem for error in found.problems.values() for problem in error.problems],
    )


def save_filters(connection: redis.Redis, filters: Mapping[str, Sequence[Filters]]) -> None:
    """Save the filters of these entries. Raise redis.RedisError."""
    if filters:
        words = [word for entry, found in filters.items() for word in (entry, msgspec.json.encode(list(found)))]
        connection.hset(keys.FILTERS, items=words)


def _load_filters(connection: redis.Redis, entries: Sequence[str]) -> dict[str, tuple[Filters, ...]]:
    """Return the saved filters of these entries; wait while Redis is unavailable, or events would miss the handlers."""
    texts = retry_while_unavailable(lambda: [connection.hget(keys.FILTERS, entry) for entry in entries])
    found: dict[str, tuple[Filters, ...]] = {}
    for entry, text in zip(entries, texts, strict=True):
        try:
            if text is not None:
                found[entry] = msgspec.json.decode(text, type=tuple[Filters, ...])
        except msgspec.MsgspecError:  # of another release
            continue
    return found
