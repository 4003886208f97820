"""The type of options such as `--since`: a point in time, given as its age."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Age(click.ParamType[datetime]):
    """A point in time, written as a duration before now: 90s, 30m, 2h, 7d or 4w."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time in UTC."""
        if isinstance(value, datetime):
            return value
        found = re.fullmatch(r"([0-9]{1,9})([smhdw])", str(value).strip().lower())
        if found is None:
            self.fail(f"{value!r} is not a duration: use 90s, 30m, 2h, 7d or 4w", param, ctx)
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
        except OverflowError:
            self.fail(f"{value!r} is too long: it is before the year 1", param, ctx)
