"""What is sent next, and when: new callbacks at their rate, failed ones after their delay.

Due retries go first. A retry that is not due delays nothing: senders take other callbacks, and wait for it only when
nothing else is left.
"""

import asyncio
from collections import deque
from collections.abc import Iterable

from callbacks.simulator.callback import PlannedCallback
from callbacks.simulator.delivery import CallbackDelivery


class SendSchedule:
    """The unfinished callbacks of one run; bound to the running loop."""

    def __init__(self, callbacks: Iterable[PlannedCallback], *, rate: float, retry_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._new = deque(callbacks)
        self._unfinished = len(self._new)
        self._interval_seconds = 1 / rate if rate else 0.0
        self._next_new_at = self._loop.time()
        self._retry_seconds = retry_seconds
        # All have the same delay, so they become due in the order in which they failed.
        self._retries: deque[tuple[float, CallbackDelivery]] = deque()
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()

    async def next_delivery(self) -> CallbackDelivery | None:
        """Wait for the next delivery and return it; None when all are finished."""
        # One sender waits, the others queue for the lock: so a thousand senders do not all wake up for one delivery.
        async with self._lock:
            while self._unfinished:
                now = self._loop.time()
                if self._retries and self._retries[0][0] <= now:
                    return self._retries.popleft()[1]
                if self._new and self._next_new_at <= now:
                    self._next_new_at += self._interval_seconds
                    return CallbackDelivery(self._new.popleft())
                await self._wait_for_change()
        return None

    def retry(self, delivery: CallbackDelivery) -> None:
        """Schedule a failed delivery again after the delay."""
        self._retries.append((self._loop.time() + self._retry_seconds, delivery))
        self._changed.set()

    def finish(self) -> None:
        """Record that one delivery is finished."""
        self._unfinished -= 1
        if not self._unfinished:
            self._changed.set()

    async def _wait_for_change(self) -> None:
        due = [self._next_new_at] if self._new else []
        due += [self._retries[0][0]] if self._retries else []
        self._changed.clear()
        try:
            async with asyncio.timeout_at(min(due, default=None)):
                await self._changed.wait()
        except TimeoutError:
            return
