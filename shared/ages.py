"""How people write a point in time: as its age, or as a date and time."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

_AGE: Final = re.compile(r"([0-9]{1,9})([smhdw])")
_Rfc3339: TypeAlias = Annotated[datetime, Meta(tz=True)]
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


def parse_moment(text: str, *, is_rfc3339: bool = False) -> datetime:
    """Return the time in UTC that `text` is: an age, or a date, perhaps with a time; without a zone it is in UTC.

    A time beyond the years 1 to 9999 in UTC becomes their end. `is_rfc3339`: a date must have a time and a zone.
    Raise ValueError.
    """
    if _AGE.fullmatch(text.strip().lower()):
        return parse_age(text)
    try:
        at = msgspec.convert(text, _Rfc3339) if is_rfc3339 else datetime.fromisoformat(text.strip())
    except (msgspec.ValidationError, ValueError):
        dates = "2026-01-31T18:00:00Z" if is_rfc3339 else "2026-01-31 or 2026-01-31T18:00"
        raise ValueError(f"{text!r} is not a time: use 90s, 30m, 2h, 7d or 4w, or {dates}") from None
    if at.tzinfo is None:
        return at.replace(tzinfo=UTC)
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC) if at.year == 1 else datetime.max.replace(tzinfo=UTC)
