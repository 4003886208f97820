"""Calls that are cancelled at any step: the next calls work as if nothing had happened."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from callbacks import Event, samples
from tests.integration.forward.services import DELIVERED, Request, says, serving, target
from tests.integration.forward.test_connections import secure
from tests.integration.harness import declaration_of
from workers.deliver.call.caller import Caller
from workers.handlers.forward.sender import Sender
from workers.handlers.forward.target_handler import make_handler
from workers.runtime.outcome import Done

AT_ONCE = 32


def reports(number: int) -> list[Event]:
    return [samples.report() for _ in range(number)]


async def quick(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.002)
    await says(200, b"ok")(request, writer)


async def cancelled_after(sender: Sender, steps: int) -> bool:
    """Send an event and cancel the call after `steps` steps of the loop; return whether it was still running."""
    call = asyncio.create_task(sender.send(samples.report()))
    for _ in range(steps):
        await asyncio.sleep(0)
    call.cancel()
    (result,) = await asyncio.gather(call, return_exceptions=True)
    return isinstance(result, asyncio.CancelledError)


async def cancelled_at_every_step(sender: Sender, *, is_new: bool) -> int:
    """Cancel calls after 0, 1, 2, … steps, and send an event after each; return how many steps a whole call takes."""
    async with sender.open():
        steps = 0
        while True:
            if not is_new:
                assert await sender.send(samples.report()) == DELIVERED, "which opens a connection"
            was_under_way = await cancelled_after(sender, steps)
            assert await sender.send(samples.report()) == DELIVERED, f"after {steps} steps"
            if not was_under_way:
                return steps
            steps += 1


@pytest.mark.parametrize("is_new", [True, False], ids=["while it is connected", "over an open connection"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_a_call_may_be_cancelled_at_any_step(is_new: bool, is_tls: bool, tmp_path: Path) -> None:
    authority, context, _ = secure(tmp_path)
    answer = says(200, b"ok", headers={"Connection": "close"} if is_new else {})
    with serving(answer, tls=context if is_tls else None) as service:
        to = target(service.url, CONCURRENCY="1", TIMEOUT_SECONDS="5", CA=str(authority))

        assert asyncio.run(cancelled_at_every_step(Sender(to), is_new=is_new)) >= 5


def test_runs_that_end_at_any_moment_leave_every_connection_usable() -> None:
    def end_early(caller: Caller, events: Sequence[Event], after: int) -> None:
        run = caller.call(events)
        for _ in range(after):
            next(run)
        run.close()  # type: ignore[attr-defined]

    with serving(quick) as service:
        function = make_handler(target(service.url, CONCURRENCY=str(AT_ONCE), TIMEOUT_SECONDS="10"))
        with Caller(declaration_of(function)) as caller:
            for _ in range(15):
                end_early(caller, reports(4 * AT_ONCE), random.randint(1, 3 * AT_ONCE))

                assert {type(outcome) for _, outcome in caller.call(reports(2 * AT_ONCE))} == {Done}
