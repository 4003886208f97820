"""`callbacks top`: how the service is right now, in the terminal, looked at again every other second until q or Ctrl-C.

What stands there is what the operators' page *Now* shows (`callbacks.ops.figures.now`). While Redis is unavailable it
says so and keeps the last that was seen.
"""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
import msgspec
import redis
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from callbacks.cli import ending, pipes
from callbacks.cli.command import Command
from callbacks.cli.top_layout import picture
from callbacks.ops.figures import now
from callbacks.ops.figures.auditing import Auditing
from callbacks.ops.figures.now import AUDIT_EVERY_SECONDS, Now
from shared import connections, settings
from shared.events import rfc3339

EVERY_SECONDS: Final = 2.0
# For a pipe or a file, which have no width of their own.
_PIPE_COLUMNS: Final = 100


class Looking:
    """Looks at the service again and again, over one connection."""

    def __init__(self, loaded: settings.Settings) -> None:
        self._settings = loaded
        self.place = connections.redact_url(loaded.redis_url)
        self._client = connections.connect(loaded.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
        self._auditing = Auditing(self._client, every_seconds=AUDIT_EVERY_SECONDS)

    def look(self) -> Now:
        """Look. Raises redis.RedisError."""
        return now.look(self._client, self._settings, self._auditing)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="Print it once and end; exit 1 if Redis does not answer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object, or with --every one a line.")
@click.option(
    "--every",
    "every_seconds",
    type=click.FloatRange(0.5, 3600),
    default=EVERY_SECONDS,
    show_default=True,
    help="Seconds from one look to the next.",
)
@click.pass_context
def top(ctx: click.Context, *, once: bool, as_json: bool, every_seconds: float) -> None:
    """Show callbacks per second, queues, handlers, workers, Redis and the audit, until q or Ctrl-C.

    Into a pipe it prints once.
    """
    looking = Looking(settings.load(needs=("REDIS_URL",)))
    is_asked_for_more = ctx.get_parameter_source("every_seconds") is click.core.ParameterSource.COMMANDLINE
    try:
        with ending.by_signal():
            if once or (as_json and not is_asked_for_more) or (not as_json and not sys.stdout.isatty()):
                _once(looking, as_json=as_json)
            elif as_json:
                _lines(looking, every_seconds)
            else:
                _screen(looking, every_seconds)
    except ending.Ended:
        sys.exit(0)
    except BrokenPipeError:
        pipes.forget_output()
    finally:
        looking.close()


def as_object(found: Now) -> dict[str, Any]:
    """Give `found` as JSON carries it: its times as every JSON of ours has them, and whether Redis is durable."""
    told: dict[str, Any] = msgspec.to_builtins(found)
    return told | {"at": rfc3339(found.at), "durable": found.durable}


def _once(looking: Looking, *, as_json: bool) -> None:
    try:
        found = looking.look()
    except redis.RedisError as exc:
        raise click.ClickException(f"{looking.place} cannot be used: {exc}") from exc
    if as_json:
        click.echo(msgspec.json.encode(as_object(found)))
        return
    # As wide as the terminal; COLUMNS says more.
    console = Console(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _PIPE_COLUMNS)
    console.print(picture(found, columns=console.width))


def _lines(looking: Looking, every_seconds: float) -> None:
    while True:
        try:
            click.echo(msgspec.json.encode(as_object(looking.look())))
        except redis.RedisError as exc:
            click.echo(f"{looking.place} is away ({type(exc).__name__})", err=True)
        time.sleep(every_seconds)


def _screen(looking: Looking, every_seconds: float) -> None:
    """Draw until q is pressed."""
    console = Console()
    last: Now | None = None
    with _keys() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                last, problem = looking.look(), ""
            except redis.RedisError as exc:
                problem = f"{looking.place} is away ({type(exc).__name__})"
            live.update(_drawn(last, problem, columns=console.width), refresh=True)
            if _is_quit(keyboard, every_seconds):
                return


def _drawn(last: Now | None, problem: str, *, columns: int) -> RenderableType:
    parts: list[RenderableType] = []
    if problem:
        seen = "" if last is None else f"; what follows is of {last.at:%H:%M:%S} UTC"
        parts.append(Text(f"{problem}{seen}", style="bold red"))
    if last is not None:
        parts.append(picture(last, columns=columns))
    return Group(*parts, Text("q ends it", style="dim"))


@contextmanager
def _keys() -> Iterator[int | None]:
    """Give the keyboard, whose keys are read as they are pressed; None where there is none."""
    if not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _is_quit(keyboard: int | None, seconds: float) -> bool:
    """Wait so long, or until q is pressed."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([] if keyboard is None else [keyboard], [], [], left)
        # Nothing at all is a terminal that is gone.
        if keyboard is not None and ready and os.read(keyboard, 64) in (b"", b"q", b"Q"):
            return True
    return False
