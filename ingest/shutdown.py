"""Ending a task that runs until it is cancelled, and ending parts one after the other, whatever one of them does."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from ingest import log

# A task that is just connecting or waiting for a reply of Redis may lose a cancellation: asyncio.wait_for before
# Python 3.12 drops one that comes in the moment in which it is done (CPython, gh-86296).
_AGAIN_SECONDS: Final = 0.5


async def stop(task: "asyncio.Task[Any]") -> None:
    """Cancel `task` until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)


async def finish(part: str, ending: Awaitable[Any]) -> None:
    """Await the end of a part. What it raises is logged, as the parts that end after it have to end too."""
    try:
        await ending
    except Exception as exc:  # noqa: BLE001 # nothing is accepted any more, so nobody is answered wrongly
        log.unexpected_error(f"the end of {part}", exc)
