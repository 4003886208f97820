"""The refusals that the gateway's patience is about: how many callbacks, since when, and how long it still tries.

"Callback failure" in the specification: three attempts, five minutes apart, then the data is discarded. So what was
refused first is sent for the last time ten minutes later.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

GATEWAY_RETRY_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class RefusalSummary:
    """Callbacks refused since `since_seconds` (of 1970); the first of them is tried for `left_seconds` more."""

    callbacks: int
    since_seconds: float
    left_seconds: float


class RefusalCounter:
    """Counts refused callbacks, each time that the gateway is told to come again."""

    def __init__(self, *, now_seconds: Callable[[], float] = time.time) -> None:
        self._now_seconds = now_seconds
        self._callbacks = 0
        self._first_seconds = 0.0
        self._last_seconds = 0.0

    def add(self, callbacks: int) -> None:
        """Count `callbacks` that were refused now."""
        now_seconds = self._now_seconds()
        if self.summary() is None:
            self._callbacks, self._first_seconds = 0, now_seconds
        self._callbacks += callbacks
        self._last_seconds = now_seconds

    def summary(self) -> RefusalSummary | None:
        """Give what there was, until nothing has been refused for as long as the gateway is patient."""
        now_seconds = self._now_seconds()
        if not self._callbacks or now_seconds - self._last_seconds > GATEWAY_RETRY_SECONDS:
            return None
        left_seconds = max(0.0, self._first_seconds + GATEWAY_RETRY_SECONDS - now_seconds)
        return RefusalSummary(self._callbacks, self._first_seconds, left_seconds)
