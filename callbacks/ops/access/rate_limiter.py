"""Limits requests by name: a number in a minute, of which a tenth may come at once. Each process counts for itself."""

import math
import time
from collections.abc import Callable
from typing import Final

# A program that asks ten times at once, then rests, is no burden.
_BURST_SHARE: Final = 10
# Sums of fractions are not exact.
_ROUNDING: Final = 1e-6


class RateLimiter:
    """Counts requests of a few known names. `clock` returns monotonic seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 60.0 / per_minute
        # How far ahead of the even rate a name may be.
        self._ahead = self._interval * (max(1, per_minute // _BURST_SHARE) - 1 + _ROUNDING)
        self._clock = clock
        self._next_at: dict[str, float] = {}

    def take(self, name: str) -> int:
        """Count a request, and return 0; or count nothing, and return in how many seconds the next one may come.

        This is the generic cell rate algorithm: `next_at` is when the next request would be due at the even rate.
        """
        now = self._clock()
        next_at = max(self._next_at.get(name, now), now)
        wait = next_at - self._ahead - now
        if wait > 0:
            return math.ceil(wait)
        self._next_at[name] = next_at + self._interval
        return 0
