"""A signal ends what a command does, whatever it does just then, and once."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from callbacks.cli import termination
from shared.errors import Terminated

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Hold that each handler is again what it was."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def send_ourselves(signum: signal.Signals) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_unwinds_the_stack_once(signum: signal.Signals) -> None:
    unwound: list[str] = []

    def work() -> None:
        try:
            send_ourselves(signum)
        finally:
            send_ourselves(signal.SIGTERM)
            unwound.append("whole")

    with pytest.raises(Terminated) as terminated, termination.on_signal():
        work()

    assert terminated.value.code == 128 + signum
    assert unwound == ["whole"]


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_cancels_a_coroutine_even_amid_code_that_swallows_exceptions(signum: signal.Signals) -> None:
    unwound: list[str] = []

    async def send() -> None:
        try:
            # As aiohttp does while it reads the body of an answer.
            try:
                send_ourselves(signum)
            except BaseException:  # noqa: BLE001 # that is what it is about
                unwound.append("swallowed")
            await asyncio.Event().wait()
        finally:
            send_ourselves(signal.SIGTERM)
            await asyncio.sleep(0)
            unwound.append("whole")

    with pytest.raises(Terminated) as terminated, termination.on_signal():
        termination.run(asyncio.wait_for(send(), 30))

    assert terminated.value.code == 128 + signum
    assert unwound == ["whole"]


def test_a_signal_counts_even_if_the_coroutine_returns() -> None:
    async def send() -> str:
        send_ourselves(signal.SIGTERM)
        return "all"

    with pytest.raises(Terminated), termination.on_signal():
        termination.run(send())


def test_without_a_signal_the_result_or_the_exception_is_the_coroutines() -> None:
    async def send(*, fails: bool) -> str:
        if fails:
            raise ValueError
        return "all"

    with termination.on_signal():
        assert termination.run(send(fails=False)) == "all"
        with pytest.raises(ValueError, match=r"^$"):
            termination.run(send(fails=True))
        with pytest.raises(Terminated):
            send_ourselves(signal.SIGINT)
