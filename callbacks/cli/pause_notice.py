"""A notice that a handler is paused; without it, a command that waits for the handler seems to hang."""

from datetime import datetime

import click
import redis

from callbacks.cli.terminal_text import short
from shared.events import rfc3339
from workers.runtime import pause
from workers.runtime.pause import PausedBy, PauseState


class PauseNotice:
    """Prints the notice on standard error, once for each pause."""

    def __init__(self, client: redis.Redis, handler: str) -> None:
        self._client = client
        self._handler = handler
        self._printed: tuple[PausedBy, datetime] | None = None

    def print_if_paused(self) -> None:
        """Print the notice if the handler is paused and it was not printed yet. Raise redis.RedisError."""
        pause_state = pause.read_state(self._client, self._handler)
        # A pause that is over stays in Redis until the next event is delivered.
        if pause_state is None or not pause_state.seconds_left or self._printed == (pause_state.by, pause_state.since):
            return
        self._printed = (pause_state.by, pause_state.since)
        click.echo(describe_pause(self._handler, pause_state), err=True)


def describe_pause(handler: str, pause_state: PauseState) -> str:
    """Return the notice for a paused handler."""
    if pause_state.until is None:
        return f"{handler!r} is paused: nothing is delivered to it until `callbacks handlers resume {handler}`."
    return (
        f"{handler!r} is paused: nothing is delivered to it "
        f"until {rfc3339(pause_state.until)}, when one event is tried. "
        f"{'It says: ' if pause_state.by == 'handler' else ''}{short(pause_state.reason or '-')}"
    )
