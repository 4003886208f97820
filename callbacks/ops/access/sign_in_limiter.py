"""Limits wrong passwords: per address, and in total against guessing from many addresses.

The total limit must not lock out regular users, so it does not apply to an address from which a user signed in before.
Each process counts for itself.
"""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

PERIOD_SECONDS: Final = 600.0
MAX_PER_ADDRESS: Final = 10
MAX_TOTAL: Final = 200
# Unknown addresses push out only each other; the total limit applies to them.
_MAX_ADDRESSES: Final = 4096


class SignInLimiter:
    """Counts wrong passwords. `clock` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total: deque[float] = deque(maxlen=MAX_TOTAL)
        self._by_address: OrderedDict[str, deque[float]] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def wait_seconds(self, address: str) -> int:
        """Return how many seconds `address` must wait before the next try; 0 if it may try now."""
        own = _seconds_left(self._by_address.get(address, deque()), MAX_PER_ADDRESS, self._clock())
        all_left = 0 if self.is_known(address) else _seconds_left(self._total, MAX_TOTAL, self._clock())
        return max(own, all_left)

    def is_known(self, address: str) -> bool:
        """Return whether a user signed in from `address` before."""
        return address in self._known

    def record_failure(self, address: str) -> None:
        """Count a wrong password."""
        tried = self._by_address.setdefault(address, deque(maxlen=MAX_PER_ADDRESS))
        self._by_address.move_to_end(address)
        for times in (tried, self._total):
            times.append(self._clock())
        if len(self._by_address) > _MAX_ADDRESSES:
            self._by_address.popitem(last=False)

    def record_success(self, address: str) -> None:
        """Record that a user signed in from there."""
        self._known[address] = None
        self._known.move_to_end(address)
        if len(self._known) > _MAX_ADDRESSES:
            self._known.popitem(last=False)


def _seconds_left(times: deque[float], most: int, now: float) -> int:
    while times and times[0] <= now - PERIOD_SECONDS:
        times.popleft()
    return math.ceil(times[-most] + PERIOD_SECONDS - now) if len(times) >= most else 0
