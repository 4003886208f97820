"""The result of one check, as `callbacks check` prints it."""

from typing import Final, Literal, TypeAlias

import click
from msgspec import Struct

State: TypeAlias = Literal["ok", "advice", "wrong"]

_MARKS: Final[dict[State, tuple[str, str]]] = {"ok": ("✓", "green"), "advice": ("!", "yellow"), "wrong": ("✗", "red")}


class CheckResult(Struct, frozen=True):
    """The result of one check: its state, what was found, and what to do about it."""

    state: State
    what: str
    remedy: str = ""


def show(finding: CheckResult) -> None:
    """Print a finding, and what to do about it."""
    mark, colour = _MARKS[finding.state]
    click.secho(f"{mark} {finding.what}", fg=colour)
    if finding.remedy:
        click.echo(f"    {finding.remedy}")
