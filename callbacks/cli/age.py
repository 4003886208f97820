"""The type of options such as `--since`: a point in time, given as its age or as a date."""

from datetime import datetime
from typing import Any

import click

from shared.ages import parse_moment


class Age(click.ParamType[datetime]):
    """A point in time: a duration before now (90s, 30m, 2h, 7d, 4w), or a date, perhaps with a time, in UTC."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_moment(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
