"""One look at Redis for all who ask meanwhile, so that asking very often, or while Redis hangs, costs one thread.

Some of what is asked here needs no password. Hundreds who ask at once would otherwise take all threads of the pages,
and, while Redis hangs, wait one after the other.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import anyio
import anyio.to_thread

Looked = TypeVar("Looked")

# What was found holds for so many times as long as it took, so that looking takes a quarter of the time at most.
_REST: Final = 3.0


class Together(Generic[Looked]):
    """Calls `look`, in a thread of its own, at most once at a time; what it finds holds for `seconds` at least."""

    def __init__(self, look: Callable[[], Looked], *, seconds: float = 0.0) -> None:
        self._look = look
        self._seconds = seconds
        self._one_at_a_time = asyncio.Lock()
        self._thread: anyio.CapacityLimiter | None = None
        self._outcome: tuple[Looked] | Exception | None = None
        self._began_at = self._holds_until = float("-inf")

    async def get(self) -> Looked:
        """Return what a look found that began after this was called, or a moment before; raise what it raised."""
        clock = asyncio.get_running_loop().time
        came_at = clock()
        async with self._one_at_a_time:
            outcome = self._outcome
            if outcome is None or (self._began_at < came_at and clock() >= self._holds_until):
                outcome = self._outcome = await self._again(clock)
        if isinstance(outcome, Exception):
            raise outcome.with_traceback(None)
        return outcome[0]

    async def _again(self, clock: Callable[[], float]) -> tuple[Looked] | Exception:
        if self._thread is None:
            self._thread = anyio.CapacityLimiter(1)
        began_at = clock()
        found: tuple[Looked] | Exception
        try:
            found = (await anyio.to_thread.run_sync(self._look, limiter=self._thread),)
            self._holds_until = clock() + max(self._seconds, _REST * (clock() - began_at))
        except Exception as exc:  # noqa: BLE001 # it is raised to all who wait
            # Those who wait hear of it at once; whoever comes now is to hear when Redis is back.
            found, self._holds_until = exc, float("-inf")
        self._began_at = began_at
        return found
