"""Times read from Redis, in milliseconds since 1970. A person or a broken clock may have set any value.

One such value must not stop a command or a page that lists it with others. So every value becomes a time: the nearest
one that a calendar holds.
"""

from datetime import UTC, datetime
from typing import Final

from shared import events

# A day from each end of the calendar, so that a time zone or a short time can be added.
_EARLIEST_MS: Final = int(datetime(1, 1, 2, tzinfo=UTC).timestamp()) * 1000
_LATEST_MS: Final = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp()) * 1000


def stored_ms(value: float | str | bytes) -> int:
    """Return a stored time in ms since 1970, within the calendar; 0 if it is not a number."""
    try:
        number = float(value) if isinstance(value, str | bytes) else value
    except ValueError:
        return 0
    if number != number:  # noqa: PLR0124 # NaN; isnan() fails for an int that is larger than any float
        return 0
    return int(min(max(number, _EARLIEST_MS), _LATEST_MS))


def stored_time(value: float | str | bytes) -> datetime:
    """Return a stored time as a datetime in UTC, as `stored_ms` reads it."""
    return events.utc_time(stored_ms(value))
