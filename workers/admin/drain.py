"""Maintenance for the queue of a handler that is to be emptied: it ends its supervisor when nothing is left."""

import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import redis

from shared import queues
from workers.admin import queue_state
from workers.admin.queue_state import QueueState
from workers.runtime.maintenance import Maintenance

_CHECK_SECONDS: Final = 1.0


class QueueDrainMaintenance(Maintenance):
    """Keeps the queue of `handler` and, about each second, calls `on_progress` with what still waits there."""

    def __init__(
        self, handler: str, *, connection: redis.Redis, on_progress: Callable[[QueueState], None], **more: Any
    ) -> None:
        super().__init__([queues.delivery_queue(handler)], connection=connection, **more)
        self._handler = handler
        self._on_progress = on_progress
        self._check_at = 0.0

    def tick(self, workers: Iterable[str]) -> None:
        """Do what is due, and stop this process's supervisor, as SIGTERM would, once nothing waits any more.

        Raises redis.RedisError where Redis is unavailable.
        """
        super().tick(workers)
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + _CHECK_SECONDS
            self.attempt("maintenance_drain", self._progress)

    def _progress(self) -> None:
        try:
            self._on_progress(queue_state.read_state(self._connection, self._handler))
        finally:
            # Also where it cannot be said what still waits.
            if queue_state.is_empty(self._connection, self._handler):
                os.kill(os.getpid(), signal.SIGTERM)
