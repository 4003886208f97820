"""Sends a campaign over several connections, each of which takes the next callback until none is left.

The time is bounded: each attempt has a time-out, and a callback has at most three attempts with a fixed delay after
each failure.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeAlias

import aiohttp

from callbacks.simulator.campaign import Campaign
from callbacks.simulator.http_client import open_session, post
from callbacks.simulator.ledger import Ledger
from callbacks.simulator.options import DeliveryOptions
from callbacks.simulator.receiver_urls import ReceiverUrls
from callbacks.simulator.schedule import SendSchedule
from callbacks.simulator.summary import RunCounter, RunProgress, RunSummary

OnProgress: TypeAlias = Callable[[RunProgress], None]

# A run that gives up does so when nothing was accepted for this long, or when everything was sent once.
_GIVE_UP_SECONDS = 10.0
# Progress is reported at this interval, not for each callback, so that it does not slow down the sending.
_PROGRESS_SECONDS = 0.1


async def run(
    campaign: Campaign,
    target: ReceiverUrls,
    *,
    options: DeliveryOptions | None = None,
    ledger: Ledger | None = None,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
    gives_up: bool = False,
) -> RunSummary:
    """Send all callbacks of `campaign` to `target`; return when each is acknowledged or discarded.

    `on_progress` is called about ten times a second and once at the end. Setting `stop` ends the run at once: requests
    in progress are cancelled and counted as unfinished. A run that `gives_up` ends so when it has sent everything once,
    or has sent for ten seconds, and nothing was accepted. With one connection and no failure, callbacks arrive in the
    campaign's order. Raise InvalidOption for an unusable CA file, and LedgerNotWritten.
    """
    options = options or DeliveryOptions()
    counter = RunCounter(planned=len(campaign.callbacks))
    async with open_session(options) as session:
        schedule = SendSchedule(campaign.callbacks, rate=options.rate, retry_seconds=options.retry_seconds)
        started = time.perf_counter()
        count = min(options.connections, len(campaign.callbacks))
        sending = _run_all([_send(schedule, session, target, counter, ledger) for _ in range(count)])
        interrupted = await _until_done_or_stopped(sending, counter, on_progress, stop, gives_up=gives_up)
        seconds = time.perf_counter() - started
    if on_progress is not None:
        on_progress(counter.progress())
    return counter.summary(seconds=seconds, interrupted=interrupted)


async def _send(
    schedule: SendSchedule,
    session: aiohttp.ClientSession,
    target: ReceiverUrls,
    counter: RunCounter,
    ledger: Ledger | None,
) -> None:
    while (delivery := await schedule.next_delivery()) is not None:
        callback = delivery.callback
        url = target.url(callback.kind, callback.url_form)
        attempt, _answer = await post(session, url, delivery.body.data, callback.headers)
        delivery.attempts.append(attempt)
        counter.count(delivery)
        if not delivery.is_finished:
            schedule.retry(delivery)
            continue
        if ledger is not None:
            ledger.write(delivery)
        schedule.finish()


async def _until_done_or_stopped(
    sending: Coroutine[None, None, None],
    counter: RunCounter,
    on_progress: OnProgress | None,
    stop: asyncio.Event | None,
    *,
    gives_up: bool,
) -> bool:
    """Return whether something ended the sending; raise what it raised. All tasks have ended on return."""
    sent = asyncio.create_task(sending)
    tasks: list[asyncio.Task[object]] = [sent]
    if stop is not None:
        tasks.append(asyncio.create_task(stop.wait()))
    if gives_up:
        tasks.append(asyncio.create_task(_until_in_vain(counter)))
    if on_progress is not None:
        tasks.append(asyncio.create_task(_report_progress(on_progress, counter)))
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
        return sent not in ended
    finally:
        await _cancel(tasks)


async def _run_all(coroutines: Iterable[Coroutine[None, None, None]]) -> None:
    """Run all; if one fails, cancel the others."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _until_in_vain(counter: RunCounter) -> None:
    give_up_at = time.perf_counter() + _GIVE_UP_SECONDS
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        if counter.has_only_failures and (counter.has_sent_all or time.perf_counter() >= give_up_at):
            return


async def _report_progress(on_progress: OnProgress, counter: RunCounter) -> None:
    while True:
        on_progress(counter.progress())
        await asyncio.sleep(_PROGRESS_SECONDS)
