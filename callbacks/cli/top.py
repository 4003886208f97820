"""`callbacks top`: the current status of the service in the terminal, refreshed every two seconds until q or Ctrl-C.

It shows what the page *Now* shows, for one Redis or for several cells. While Redis is unavailable it says so, keeps the
last status, and asks the web processes for their spools (CALLBACKS_WEB_METRICS).
"""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click
import msgspec
import redis
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from callbacks.cli import broken_pipe, termination
from callbacks.cli.command import Command
from callbacks.cli.top_views import View, view_cells, view_status
from shared import connections, settings
from shared.errors import Terminated

T = TypeVar("T")

REFRESH_SECONDS: Final = 2.0
# The width for a pipe or a file.
_PIPE_COLUMNS: Final = 100


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="Print the status once and exit; exit 1 if Redis does not answer.")
@click.option("--cell", metavar="NAME", help="Show one of CALLBACKS_CELLS in full, instead of a line for each.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object, or with --every one object per line.")
@click.option(
    "--every",
    "every_seconds",
    type=click.FloatRange(0.5, 3600),
    default=REFRESH_SECONDS,
    show_default=True,
    help="Seconds between refreshes.",
)
@click.pass_context
def top(ctx: click.Context, *, once: bool, cell: str | None, as_json: bool, every_seconds: float) -> None:
    """Show callbacks per second, queues, handlers, workers, Redis and the audit, until q or Ctrl-C.

    In a pipe it prints once. With CALLBACKS_CELLS it shows a line for each cell, and what needs attention in it.
    """
    view = _open_view(cell)
    is_asked_for_more = ctx.get_parameter_source("every_seconds") is click.core.ParameterSource.COMMANDLINE
    try:
        with termination.on_signal():
            if once or (as_json and not is_asked_for_more) or (not as_json and not sys.stdout.isatty()):
                _print_once(view, as_json=as_json)
            elif as_json:
                _print_lines(view, every_seconds)
            else:
                _run_screen(view, every_seconds)
    except Terminated:
        sys.exit(0)
    except BrokenPipeError:
        broken_pipe.discard_output()
    finally:
        view.close()


def _open_view(cell: str | None) -> View[Any]:
    loaded = settings.load(process="cells", needs=("REDIS_URL",))
    if cell is None:
        return view_cells(loaded) if loaded.cells else view_status(loaded)
    urls = {one.name: one.redis_url for one in loaded.cells}
    if cell not in urls:
        raise click.BadParameter(
            f"{cell!r} is not one of CALLBACKS_CELLS: {', '.join(urls) or 'none is set'}.", param_hint="--cell"
        )
    return view_status(replace(loaded, redis_url=urls[cell]))


def _print_once(view: View[T], *, as_json: bool) -> None:
    try:
        found = view.read()
    except redis.RedisError as exc:
        for line in view.describe_outage():
            click.echo(line, err=True)
        raise click.ClickException(f"{view.name} cannot be used: {connections.describe_error(exc)}") from exc
    if as_json:
        click.echo(msgspec.json.encode(view.to_json_object(found)))
    else:
        # As wide as the terminal, or as COLUMNS says.
        console = Console(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _PIPE_COLUMNS)
        console.print(view.render(found, console.width))
    if not view.is_whole(found):
        sys.exit(1)


def _print_lines(view: View[T], every_seconds: float) -> None:
    while True:
        try:
            click.echo(msgspec.json.encode(view.to_json_object(view.read())))
        except redis.RedisError as exc:
            click.echo(f"{view.name} is unavailable ({type(exc).__name__})", err=True)
        time.sleep(every_seconds)


def _run_screen(view: View[T], every_seconds: float) -> None:
    """Refresh the screen until q is pressed."""
    console = Console()
    shown: list[RenderableType] = []
    at = ""
    with _raw_keyboard() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            problem: list[RenderableType] = []
            try:
                shown, at = [view.render(view.read(), console.width)], f"{datetime.now(UTC):%H:%M:%S}"
            except redis.RedisError as exc:
                last = f"; the status below is from {at} UTC" if at else ""
                text = f"{view.name} is unavailable ({type(exc).__name__}){last}"
                problem = [Text(text, style="bold red"), *map(Text, view.describe_outage())]
            live.update(Group(*problem, *shown, Text("q: quit", style="dim")), refresh=True)
            if _wait_for_quit(keyboard, every_seconds):
                return


@contextmanager
def _raw_keyboard() -> Iterator[int | None]:
    """Yield the file descriptor of the keyboard in raw mode; None if stdin is not a terminal."""
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


def _wait_for_quit(keyboard: int | None, seconds: float) -> bool:
    """Wait `seconds` or until q is pressed; return whether it was."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([] if keyboard is None else [keyboard], [], [], left)
        # An empty read means that the terminal is closed.
        if keyboard is not None and ready and os.read(keyboard, 64) in (b"", b"q", b"Q"):
            return True
    return False
