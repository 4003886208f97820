"""`callbacks top`: the current status of the service in the terminal, refreshed every two seconds until q or Ctrl-C.

It shows what the operators' page *Now* shows. While Redis is unavailable it says so and keeps the last status.
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

from callbacks.cli import broken_pipe, termination
from callbacks.cli.command import Command
from callbacks.cli.top_layout import render_status
from callbacks.ops.status import service_status
from callbacks.ops.status.audit_cache import AuditCache
from callbacks.ops.status.service_status import AUDIT_EVERY_SECONDS, ServiceStatus
from shared import connections, settings
from shared.events import rfc3339

REFRESH_SECONDS: Final = 2.0
# The width for a pipe or a file.
_PIPE_COLUMNS: Final = 100


class StatusReader:
    """Reads the status over one connection."""

    def __init__(self, loaded: settings.Settings) -> None:
        self._settings = loaded
        self.redis_url = connections.redact_url(loaded.redis_url)
        self._client = connections.connect(loaded.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
        self._audit_cache = AuditCache(self._client, every_seconds=AUDIT_EVERY_SECONDS)

    def read(self) -> ServiceStatus:
        """Return the current status. Raises redis.RedisError."""
        return service_status.read_status(self._client, self._settings, self._audit_cache)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="Print the status once and exit; exit 1 if Redis does not answer.")
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
def top(ctx: click.Context, *, once: bool, as_json: bool, every_seconds: float) -> None:
    """Show callbacks per second, queues, handlers, workers, Redis and the audit, until q or Ctrl-C.

    In a pipe it prints once.
    """
    reader = StatusReader(settings.load(process="command", needs=("REDIS_URL",)))
    is_asked_for_more = ctx.get_parameter_source("every_seconds") is click.core.ParameterSource.COMMANDLINE
    try:
        with termination.on_signal():
            if once or (as_json and not is_asked_for_more) or (not as_json and not sys.stdout.isatty()):
                _print_once(reader, as_json=as_json)
            elif as_json:
                _print_lines(reader, every_seconds)
            else:
                _run_screen(reader, every_seconds)
    except termination.Terminated:
        sys.exit(0)
    except BrokenPipeError:
        broken_pipe.discard_output()
    finally:
        reader.close()


def to_json_object(found: ServiceStatus) -> dict[str, Any]:
    """Return the status as a JSON object: with its time in RFC 3339, and what it says as a whole."""
    fields: dict[str, Any] = msgspec.to_builtins(found)
    return fields | {
        "at": rfc3339(found.at),
        "durable": found.durable,
        "gateway_gives_up_in_seconds": found.gateway_gives_up_in_seconds,
    }


def _print_once(reader: StatusReader, *, as_json: bool) -> None:
    try:
        found = reader.read()
    except redis.RedisError as exc:
        raise click.ClickException(f"{reader.redis_url} cannot be used: {connections.describe_error(exc)}") from exc
    if as_json:
        click.echo(msgspec.json.encode(to_json_object(found)))
        return
    # As wide as the terminal, or as COLUMNS says.
    console = Console(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _PIPE_COLUMNS)
    console.print(render_status(found, columns=console.width))


def _print_lines(reader: StatusReader, every_seconds: float) -> None:
    while True:
        try:
            click.echo(msgspec.json.encode(to_json_object(reader.read())))
        except redis.RedisError as exc:
            click.echo(f"{reader.redis_url} is unavailable ({type(exc).__name__})", err=True)
        time.sleep(every_seconds)


def _run_screen(reader: StatusReader, every_seconds: float) -> None:
    """Refresh the screen until q is pressed."""
    console = Console()
    last: ServiceStatus | None = None
    with _raw_keyboard() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                last, problem = reader.read(), ""
            except redis.RedisError as exc:
                problem = f"{reader.redis_url} is unavailable ({type(exc).__name__})"
            live.update(_render(last, problem, columns=console.width), refresh=True)
            if _wait_for_quit(keyboard, every_seconds):
                return


def _render(last: ServiceStatus | None, problem: str, *, columns: int) -> RenderableType:
    parts: list[RenderableType] = []
    if problem:
        seen = "" if last is None else f"; the status below is from {last.at:%H:%M:%S} UTC"
        parts.append(Text(f"{problem}{seen}", style="bold red"))
    if last is not None:
        parts.append(render_status(last, columns=columns))
    return Group(*parts, Text("q: quit", style="dim"))


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
