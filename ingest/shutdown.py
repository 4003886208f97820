"""Ending a task that runs until it is cancelled, and ending parts one after the other, whatever one of them raises."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from ingest import log

# A task that is connecting or waiting for a reply of Redis may lose a cancellation: asyncio.wait_for before Python 3.12
# drops one that arrives in the moment in which it is done (CPython, gh-86296).
_CANCEL_INTERVAL_SECONDS: Final = 0.5


async def cancel(task: "asyncio.Task[Any]") -> None:
    """Cancel `task` again and again until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_INTERVAL_SECONDS)


async def run_step(part: str, ending: Awaitable[Any]) -> None:
    """Await `ending`, which ends a part of the process. What it raises is logged, so that the other parts end too."""
    try:
        await ending
    except Exception as exc:  # noqa: BLE001 # nothing is accepted any more, so no answer can be wrong
        log.unexpected_error(f"shutdown of {part}", exc)
