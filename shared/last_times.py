"""When the service last did something: accepted a callback; delivered to a handler, retried, or gave up on an event.

The times are Unix seconds of Redis in `cb:metrics`, written with the push of the growth that shows it (`metrics_push`),
so they are exact to two seconds and cost no command of their own.

    last_accepted_at               of all sources; before the first callback, when a web process first started
    last_accepted_at|<source>
    last_delivered_at|<handler>    likewise last_retried_at and last_dead_at
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from shared.metrics import ACCEPTED, CALL, DEAD, DELIVERY, RETRIED, SEPARATOR
from shared.stored_times import stored_ms, stored_time

LAST_ACCEPTED: Final = "last_accepted_at"
LAST_DELIVERED: Final = "last_delivered_at"
LAST_RETRIED: Final = "last_retried_at"
LAST_DEAD: Final = "last_dead_at"

_BY_HANDLER: Final = {DELIVERY: LAST_DELIVERED, RETRIED: LAST_RETRIED, DEAD: LAST_DEAD}
# What calls and settlements add to `cb:metrics`, by the first word of the name: `handlers forget` deletes it.
HANDLER_METRICS: Final = (CALL, *_BY_HANDLER, *_BY_HANDLER.values())


class LastTimes(Struct, frozen=True, kw_only=True):
    """When a handler last delivered an event, scheduled a retry and gave up on one; None: never, as far as known."""

    delivered_at: datetime | None = None
    retried_at: datetime | None = None
    dead_at: datetime | None = None


def names_of(growth: Mapping[str, int]) -> list[str]:
    """Return the names of the times that a process's growth sets."""
    found: dict[str, None] = {}
    for name in growth:
        part, _, rest = name.partition(SEPARATOR)
        if part == ACCEPTED:
            found |= dict.fromkeys((LAST_ACCEPTED, f"{LAST_ACCEPTED}{SEPARATOR}{rest.partition(SEPARATOR)[2]}"))
        elif part in _BY_HANDLER and rest:
            found[f"{_BY_HANDLER[part]}{SEPARATOR}{rest.partition(SEPARATOR)[0]}"] = None
    return list(found)


def handler_names(handler: str) -> list[str]:
    """Return the names of a handler's times, in the order of LastTimes."""
    return [f"{name}{SEPARATOR}{handler}" for name in _BY_HANDLER.values()]


def parse_handler(seconds: Iterable[int | bytes | str | None]) -> LastTimes:
    """Return a handler's times; `seconds` are the values of `handler_names`."""
    delivered, retried, dead = (None if one is None else stored_time(stored_ms(one) * 1000) for one in seconds)
    return LastTimes(delivered_at=delivered, retried_at=retried, dead_at=dead)
