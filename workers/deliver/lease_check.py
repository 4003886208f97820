"""Whether a run still holds its job, asked before calls that follow a time in which the process may have stood still.

A process, or its host with its supervisor, may be frozen at any moment for longer than its lease. When it goes on,
another worker may have its job, and may have finished it. A settlement is refused then. But the reply to a claim, or to
a settlement, may have waited all that time to be read, and it says nothing of this.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import redis

from shared import keys
from workers.runtime.redis_retry import retry_while_unavailable
from workers.runtime.run_errors import StaleRun

# A supervisor renews a lease of 45 s every 10 s: nobody takes over a job within less.
_STANDSTILL_SECONDS: Final = 10.0


class LeaseCheck:
    """Checks the runs of one process, one after the other."""

    def __init__(self, connection: redis.Redis, *, is_stopping: Callable[[], bool]) -> None:
        self._connection: Any = connection
        self._is_stopping = is_stopping
        # When the run was last known to hold its job.
        self._known_at = time.monotonic()

    def begin(self) -> None:
        """Note that the run will now claim, which it can only if it holds its job."""
        self._known_at = time.monotonic()

    def check(self, job_id: str, worker: str) -> None:
        """Raise StaleRun if another worker has taken over the job; and redis.RedisError.

        Redis is asked only after a standstill, or a call that took as long. Its reply may have waited too.
        """
        while (now := time.monotonic()) - self._known_at > _STANDSTILL_SECONDS:
            status, owner = retry_while_unavailable(
                lambda: self._connection.hmget(keys.job(job_id), "status", "worker_name"),
                is_stopping=self._is_stopping,
            )
            if (status, owner) != (b"started", worker.encode()):
                raise StaleRun
            self._known_at = now
        self._known_at = now
