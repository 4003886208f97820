"""Emptying the queue of a handler: its supervisor ends when nothing is left."""

import os
import signal
import time
from collections.abc import Callable
from typing import Final

import redis

from workers.admin import queue_state
from workers.admin.queue_state import QueueState

_CHECK_SECONDS: Final = 1.0


class QueueDrain:
    """A task of maintenance: about each second, calls `on_progress` with what still waits for `handler`."""

    def __init__(self, handler: str, *, connection: redis.Redis, on_progress: Callable[[QueueState], None]) -> None:
        self._connection = connection
        self._handler = handler
        self._on_progress = on_progress
        self._check_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether a second has passed since the last check."""
        return time.monotonic() >= self._check_at

    def tick(self) -> None:
        """Report what waits. Once nothing does, stop this process's supervisor, as SIGTERM would.

        Raise redis.RedisError.
        """
        self._check_at = time.monotonic() + _CHECK_SECONDS
        try:
            self._on_progress(queue_state.read_state(self._connection, self._handler))
        finally:
            # Even if the report failed.
            if queue_state.is_empty(self._connection, self._handler):
                os.kill(os.getpid(), signal.SIGTERM)
