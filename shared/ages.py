"""How people write a point in time as its age."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_age(text: str) -> datetime:
    """Return the time in UTC that was this long ago: 90s, 30m, 2h, 7d or 4w. Raise ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is not a duration: use 90s, 30m, 2h, 7d or 4w")
    try:
        return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise ValueError(f"{text!r} is too long: it is before the year 1") from None
