"""How fast the spool grows, and so in how many seconds it is full."""

import math
import time
from collections.abc import Callable
from typing import Final

# Traffic comes in bursts, so shorter times would give a number that jumps.
WINDOW_SECONDS: Final = 60.0
# Sizes closer together than this are one.
_STEP_SECONDS: Final = 1.0


class FillRate:
    """The sizes of the last minute. One thread adds, any thread may read."""

    def __init__(self, *, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._now_seconds = now_seconds
        # A tuple, replaced as a whole: a reader in another thread sees the old one or the new one.
        self._sizes: tuple[tuple[float, int], ...] = ()

    def add(self, size_bytes: int) -> None:
        """Record the size of now."""
        now_seconds = self._now_seconds()
        kept = tuple(size for size in self._sizes if now_seconds - size[0] <= WINDOW_SECONDS)
        if len(kept) > 1 and now_seconds - kept[-2][0] < _STEP_SECONDS:
            kept = kept[:-1]
        self._sizes = (*kept, (now_seconds, size_bytes))

    def seconds_until(self, limit_bytes: int) -> float:
        """Return in how many seconds the size is `limit_bytes`; infinity while it does not grow."""
        now_seconds = self._now_seconds()
        sizes = [size for size in self._sizes if now_seconds - size[0] <= WINDOW_SECONDS]
        if len(sizes) < 2:  # noqa: PLR2004 # one size is no growth
            return math.inf
        (first_seconds, first_bytes), (_, last_bytes) = sizes[0], sizes[-1]
        if last_bytes <= first_bytes:
            return math.inf
        # Until now, not until the last size: a spool that gets nothing more fills more and more slowly.
        per_second = (last_bytes - first_bytes) / max(now_seconds - first_seconds, _STEP_SECONDS)
        return max(0.0, limit_bytes - last_bytes) / per_second
