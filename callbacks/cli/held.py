"""Saying that a handler is off or paused: else a command that waits for it seems to do nothing."""

from datetime import datetime

import click
import redis

from callbacks.cli.shelf_options import short
from shared.events import rfc3339
from workers.runtime import pause
from workers.runtime.pause import PausedBy, PauseState


class Held:
    """Says it on standard error, once for each pause."""

    def __init__(self, client: redis.Redis, handler: str) -> None:
        self._client = client
        self._handler = handler
        self._told: tuple[PausedBy, datetime] | None = None

    def tell(self) -> None:
        """Say it, if it is so and has not been said. Raises redis.RedisError."""
        pausing = pause.read_state(self._client, self._handler)
        # A pause that is over stands there until the next event is done.
        if pausing is None or not pausing.seconds_left or self._told == (pausing.by, pausing.since):
            return
        self._told = (pausing.by, pausing.since)
        click.echo(words(self._handler, pausing), err=True)


def words(handler: str, pausing: PauseState) -> str:
    """Give the sentence for a handler that is held."""
    if pausing.until is None:
        return f"{handler!r} is off: nothing is delivered to it until `callbacks handlers on {handler}`."
    return (
        f"{handler!r} is paused: nothing is delivered to it until {rfc3339(pausing.until)}, when one event is tried. "
        f"{'It says: ' if pausing.by == 'handler' else ''}{short(pausing.reason or '-')}"
    )
