"""Times as Redis holds them, in milliseconds since 1970, read without trust: a hand or a broken clock may set them.

One such value must not stop a command or a page that lists it among others. So whatever is read becomes a time, the
nearest one that a calendar holds.
"""

from datetime import UTC, datetime
from typing import Final

from shared import events

# A day from the ends of the calendar, so that a zone or a moment more can be added to it.
_EARLIEST_MS: Final = int(datetime(1, 1, 2, tzinfo=UTC).timestamp()) * 1000
_LATEST_MS: Final = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp()) * 1000


def stored_ms(value: float | str | bytes) -> int:
    """Return a stored time in ms since 1970, within the calendar; 0 for what is not a number."""
    try:
        number = float(value) if isinstance(value, str | bytes) else value
    except ValueError:
        return 0
    if number != number:  # noqa: PLR0124 # not a number; isnan() takes no int that is larger than any float
        return 0
    return int(min(max(number, _EARLIEST_MS), _LATEST_MS))


def stored_time(value: float | str | bytes) -> datetime:
    """Return a stored time as a datetime in UTC, as `stored_ms` reads it."""
    return events.utc_time(stored_ms(value))
