"""The type of the option `--rate`: how many a second."""

from typing import Any

import click

from workers.admin.replay_rate import parse_rate


class Rate(click.ParamType[float]):
    """A rate, written as 50/s or 300/m."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return how many a second."""
        try:
            return parse_rate(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
