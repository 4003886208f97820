"""What a process prints when it starts, or cannot: plain text for people, or lines of the log if that is JSON.

A collector of JSON reads standard output and standard error as one, and has to read each line.
"""

from collections.abc import Sequence

import click

from shared import logs
from shared.structured_log import get_logger

log = get_logger("callbacks.start")


def print_address(url: str, *, text: str, what: str) -> None:
    """Print `text`, which says where a process listens; as JSON it is action=listening with `what` listens at `url`."""
    if logs.is_json():
        log.info("listening", what=what, url=url)
    else:
        click.echo(text)


def print_problems(problems: Sequence[str]) -> None:
    """Print what is wrong with the configuration; as JSON it is action=misconfigured."""
    if logs.is_json():
        for problem in problems:
            log.error("misconfigured", problem=problem)
        return
    for problem in problems:
        click.echo(f"callbacks: {problem}", err=True)
    click.echo("`callbacks check` says more.", err=True)
