"""Saying that a handler is off or paused: else a command that waits for it seems to do nothing."""

from datetime import datetime

import click
import redis

from callbacks.cli.failure_options import short
from shared.events import rfc3339
from workers.runtime import pause
from workers.runtime.pause import PausedBy, PauseState


class PauseNotice:
    """Says it on standard error, once for each pause."""

    def __init__(self, client: redis.Redis, handler: str) -> None:
        self._client = client
        self._handler = handler
        self._printed: tuple[PausedBy, datetime] | None = None

    def print_if_paused(self) -> None:
        """Say it, if it is so and has not been said. Raises redis.RedisError."""
        pause_state = pause.read_state(self._client, self._handler)
        # A pause that is over stands there until the next event is done.
        if pause_state is None or not pause_state.seconds_left or self._printed == (pause_state.by, pause_state.since):
            return
        self._printed = (pause_state.by, pause_state.since)
        click.echo(describe_pause(self._handler, pause_state), err=True)


def describe_pause(handler: str, pause_state: PauseState) -> str:
    """Give the sentence for a handler that is held."""
    if pause_state.until is None:
        return f"{handler!r} is paused: nothing is delivered to it until `callbacks handlers resume {handler}`."
    return (
        f"{handler!r} is paused: nothing is delivered to it "
        f"until {rfc3339(pause_state.until)}, when one event is tried. "
        f"{'It says: ' if pause_state.by == 'handler' else ''}{short(pause_state.reason or '-')}"
    )
