"""Two lines for an outage of Redis in one process: one when it begins, and one when it is over.

Many places of a worker notice it, RQ among them; each says so here, and whatever Redis answers ends it.
"""

import time
from typing import Any, Final

from shared.connections import describe_error
from shared.structured_log import get_logger

log = get_logger("callbacks.worker")


class RedisAvailability:
    """Whether Redis could be used last, as this process knows it."""

    def __init__(self) -> None:
        self._unavailable_since: float | None = None

    def failed(self, exc: BaseException, **fields: Any) -> None:
        """Record that Redis could not be used, and log it if it could before."""
        if self._unavailable_since is None:
            self._unavailable_since = time.monotonic()
            log.warning("redis_unavailable", **fields, error=describe_error(exc))

    def succeeded(self) -> None:
        """Record that Redis did what it was asked to, and log it if it could not before."""
        if self._unavailable_since is not None:
            seconds, self._unavailable_since = time.monotonic() - self._unavailable_since, None
            log.warning("redis_available", seconds=round(seconds))


redis_availability: Final = RedisAvailability()
