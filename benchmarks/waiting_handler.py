"""A handler that waits 50 ms for nothing, 32 events at once: the most that a handler of that concurrency can do."""

import asyncio

from callbacks import ReportEvent, handler


@handler(ReportEvent, concurrency=32)
async def waits(_event: ReportEvent) -> None:
    await asyncio.sleep(0.05)
