"""One call at a time for all concurrent callers, so that many requests, or a hanging Redis, use one thread.

Some requests need no password. Hundreds at once would otherwise take all threads of the pages and, while Redis hangs,
wait one after the other.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

# A result is kept for this many times as long as the call took, so that calls take a quarter of the time at most.
_HOLD_FACTOR: Final = 3.0


class SingleFlight(Generic[T]):
    """Runs `call` in a thread of its own, one call at a time; a result is kept for at least `seconds`."""

    def __init__(self, call: Callable[[], T], *, seconds: float = 0.0) -> None:
        self._call = call
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._thread: anyio.CapacityLimiter | None = None
        self._outcome: tuple[T] | Exception | None = None
        self._started_at = self._holds_until = float("-inf")

    async def get(self) -> T:
        """Return the result of a call that started after this request, or a kept one; raise what it raised."""
        clock = asyncio.get_running_loop().time
        called_at = clock()
        async with self._lock:
            outcome = self._outcome
            if outcome is None or (self._started_at < called_at and clock() >= self._holds_until):
                outcome = self._outcome = await self._run(clock)
        if isinstance(outcome, Exception):
            raise outcome.with_traceback(None)
        return outcome[0]

    async def _run(self, clock: Callable[[], float]) -> tuple[T] | Exception:
        if self._thread is None:
            self._thread = anyio.CapacityLimiter(1)
        started_at = clock()
        found: tuple[T] | Exception
        try:
            found = (await anyio.to_thread.run_sync(self._call, limiter=self._thread),)
            self._holds_until = clock() + max(self._seconds, _HOLD_FACTOR * (clock() - started_at))
        except Exception as exc:  # noqa: BLE001 # it is raised for all that wait
            # All that wait get the error at once; later requests call again.
            found, self._holds_until = exc, float("-inf")
        self._started_at = started_at
        return found
