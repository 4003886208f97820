"""The type of options such as `--since`: a point in time, given as its age."""

from datetime import datetime
from typing import Any

import click

from shared.ages import parse_age


class Age(click.ParamType[datetime]):
    """A point in time, written as a duration before now: 90s, 30m, 2h, 7d or 4w."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_age(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
