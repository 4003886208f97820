"""Ending a task that runs until it is cancelled."""

import asyncio
from typing import Any, Final

# A task that is just connecting or waiting for a reply of Redis may lose a cancellation: asyncio.wait_for before
# Python 3.12 drops one that comes in the moment in which it is done (CPython, gh-86296).
_AGAIN_SECONDS: Final = 0.5


async def stop(task: "asyncio.Task[Any]") -> None:
    """Cancel `task` until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)
