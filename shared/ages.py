"""How people write a point in time: as its age, or as a date and time."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_AGE: Final = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_age(text: str) -> datetime:
    """Return the time in UTC that was this long ago: 90s, 30m, 2h, 7d or 4w. Raise ValueError."""
    found = _AGE.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is not a duration: use 90s, 30m, 2h, 7d or 4w")
    try:
        return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise ValueError(f"{text!r} is too long: it is before the year 1") from None


def parse_moment(text: str) -> datetime:
    """Return the time in UTC that `text` is: an age, or a date, perhaps with a time; without a zone it is in UTC.

    Raise ValueError.
    """
    if _AGE.fullmatch(text.strip().lower()):
        return parse_age(text)
    try:
        at = datetime.fromisoformat(text.strip())
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time: use 90s, 30m, 2h or 7d, or 2026-01-31 or 2026-01-31T18:00") from None
