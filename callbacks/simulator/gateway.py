"""Sends a campaign: so many connections, each taking what is next until nothing is left.

Time is bounded: every attempt ends by its time-out, and a callback has at most three of them with a
fixed wait after each failure.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeAlias

import aiohttp

from callbacks.simulator.agenda import Agenda
from callbacks.simulator.campaign import Campaign
from callbacks.simulator.ledger import Ledger
from callbacks.simulator.options import DeliveryOptions
from callbacks.simulator.posting import open_session, post
from callbacks.simulator.summary import Progress, Summary, Tally
from callbacks.simulator.target import Target

OnProgress: TypeAlias = Callable[[Progress], None]

# Told by the clock, not by the callback: telling costs the sending nothing.
_PROGRESS_SECONDS = 0.1


async def run(
    campaign: Campaign,
    target: Target,
    *,
    options: DeliveryOptions | None = None,
    ledger: Ledger | None = None,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> Summary:
    """Send all callbacks of `campaign` to `target`; return when each is acknowledged or discarded.

    `on_progress` is called about ten times a second and once at the end. Setting `stop` ends the run
    at once: requests under way are broken off and counted as unfinished. With one connection and no
    failure, callbacks arrive in the campaign's order. Raises InvalidOption for an unusable CA file and
    LedgerNotWritten.
    """
    options = options or DeliveryOptions()
    tally = Tally(planned=len(campaign.callbacks))
    async with open_session(options) as session:
        agenda = Agenda(campaign.callbacks, rate=options.rate, retry_seconds=options.retry_seconds)
        started = time.perf_counter()
        count = min(options.connections, len(campaign.callbacks))
        sending = _together([_send(agenda, session, target, tally, ledger) for _ in range(count)])
        interrupted = await _until_done_or_stopped(sending, tally, on_progress, stop)
        seconds = time.perf_counter() - started
    if on_progress is not None:
        on_progress(tally.progress())
    return tally.summary(seconds=seconds, interrupted=interrupted)


async def _send(
    agenda: Agenda, session: aiohttp.ClientSession, target: Target, tally: Tally, ledger: Ledger | None
) -> None:
    while (delivery := await agenda.take()) is not None:
        attempt = await post(session, target.url(delivery.callback.kind), delivery.body.data)
        delivery.attempts.append(attempt)
        tally.count(delivery)
        if not delivery.is_over:
            agenda.retry(delivery)
            continue
        if ledger is not None:
            ledger.write(delivery)
        agenda.finish()


async def _until_done_or_stopped(
    sending: Coroutine[None, None, None],
    tally: Tally,
    on_progress: OnProgress | None,
    stop: asyncio.Event | None,
) -> bool:
    """Return whether `stop` came first; raise what the sending raised. No task is left behind."""
    sent = asyncio.create_task(sending)
    tasks: list[asyncio.Task[object]] = [sent]
    if stop is not None:
        tasks.append(asyncio.create_task(stop.wait()))
    if on_progress is not None:
        tasks.append(asyncio.create_task(_tell(on_progress, tally)))
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
        return sent not in ended
    finally:
        await _cancel(tasks)


async def _together(coroutines: Iterable[Coroutine[None, None, None]]) -> None:
    """Run all; the first to fail ends the others."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _tell(on_progress: OnProgress, tally: Tally) -> None:
    while True:
        on_progress(tally.progress())
        await asyncio.sleep(_PROGRESS_SECONDS)
