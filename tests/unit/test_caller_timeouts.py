"""A handler's time limit: for `def` and `async def` alike, repeated while the call continues; other alarms are kept."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from callbacks import Event, HandlerTimeout, ReportEvent
from tests.unit.test_caller import LONG, SHORT, Made, both, failure, keep_in, outcome, outcomes, reports
from workers.deliver.call.timeout import Alarm
from workers.runtime.outcome import DONE, Failed, Split


@pytest.fixture(autouse=True)
def _alarm_clock_is_left_as_it_was() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_blocking_call_is_ended_when_its_time_is_over() -> None:
    def take(event: ReportEvent) -> None:
        if event.message_id == "1":
            time.sleep(LONG)

    first, second, third = outcomes(take, reports(3), timeout_seconds=SHORT)
    assert (first, third) == (DONE, DONE)
    assert isinstance(second, Failed)
    assert (second.kind, second.error) == ("timeout", "workers.signals.HandlerTimeout: not done after 0.5 s")
    assert "time.sleep(LONG)" in second.traceback


def test_a_waiting_coroutine_is_ended_when_its_time_is_over() -> None:
    async def take(event: ReportEvent) -> None:
        if event.message_id == "1":
            await asyncio.sleep(LONG)

    first, second, third = outcomes(take, reports(3), timeout_seconds=SHORT)
    assert (first, third) == (DONE, DONE)
    assert isinstance(second, Failed)
    assert (second.kind, second.error) == ("timeout", "workers.signals.HandlerTimeout: not done after 0.5 s")
    assert "asyncio.sleep(LONG)" in second.traceback


def test_a_handler_may_clean_up_when_its_time_is_over() -> None:
    cleaned: list[str] = []

    def take(event: Event) -> None:
        try:
            time.sleep(LONG)
        finally:
            cleaned.append("def")

    async def take_async(event: Event) -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            cleaned.append("async def")

    assert failure(take, timeout_seconds=SHORT).kind == "timeout"
    assert failure(take_async, timeout_seconds=SHORT).kind == "timeout"
    assert cleaned == ["def", "async def"]


def test_a_handler_that_catches_every_exception_is_still_ended() -> None:
    def take(event: Event) -> None:
        while True:
            with contextlib.suppress(Exception):
                time.sleep(LONG)

    assert failure(take, timeout_seconds=SHORT).kind == "timeout"


def test_a_handler_that_swallows_its_time_out_gets_it_again() -> None:
    def take(event: Event) -> None:
        with contextlib.suppress(HandlerTimeout):
            time.sleep(LONG)
        time.sleep(LONG)

    async def take_async(event: Event) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)
        await asyncio.sleep(LONG)

    assert failure(take, timeout_seconds=SHORT).kind == "timeout"
    assert failure(take_async, timeout_seconds=SHORT).kind == "timeout"


def test_a_handler_that_catches_its_time_out_and_returns_is_done() -> None:
    def take(event: Event) -> None:
        with contextlib.suppress(HandlerTimeout):
            time.sleep(LONG)

    async def take_async(event: Event) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)

    assert outcome(take, timeout_seconds=SHORT) == DONE
    assert outcome(take_async, timeout_seconds=SHORT) == DONE


@both
def test_a_handlers_own_timeout_error_is_an_exception(made: Made) -> None:
    def take(event: Event) -> None:
        raise TimeoutError("the database")

    assert failure(made(take)).kind == "exception"


def test_a_batch_has_one_time_limit() -> None:
    def take(events: list[Event]) -> None:
        time.sleep(LONG)

    results = outcomes(take, reports(2), batch=True, timeout_seconds=SHORT)
    assert results[0] == results[1]
    assert isinstance(results[0], Split)
    assert isinstance(results[0].cause, Failed)
    assert results[0].cause.kind == "timeout"


def test_an_alarm_that_was_set_before_continues_after_the_call_and_never_fires_inside() -> None:
    inside, rang = False, []

    def outer(_signum: int, _frame: FrameType | None) -> None:
        rang.append(inside)

    def take(event: Event) -> None:
        nonlocal inside
        inside = True
        time.sleep(2 * SHORT)
        inside = False

    before = signal.signal(signal.SIGALRM, outer)
    signal.setitimer(signal.ITIMER_REAL, SHORT)
    try:
        assert outcome(take) == DONE
        while not rang:
            time.sleep(0.001)
        assert rang == [False]

        signal.setitimer(signal.ITIMER_REAL, LONG)
        assert outcome(keep_in([])) == DONE
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < LONG
        assert signal.getsignal(signal.SIGALRM) is outer
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_limit_inside_a_limit_leaves_the_outer_one_set() -> None:
    def limited(timeout_seconds: float, function: Callable[[None], None]) -> None:
        with Alarm(timeout_seconds) as clock:
            clock.call(function, None)

    def inner(_: None) -> None:
        time.sleep(LONG)

    def outer(_: None) -> None:
        with contextlib.suppress(HandlerTimeout):
            limited(SHORT, inner)
        time.sleep(LONG)

    with pytest.raises(HandlerTimeout, match=r"not done after 1\.5 s"):
        limited(1.5, outer)


def test_each_call_has_its_full_time_after_any_number_of_calls() -> None:
    with Alarm(SHORT) as clock:
        began = time.monotonic()
        while time.monotonic() - began < 3 * SHORT:
            clock.call(time.sleep, SHORT / 10)

        with pytest.raises(HandlerTimeout):
            clock.call(time.sleep, LONG)
        clock.call(time.sleep, SHORT / 10)
        with pytest.raises(HandlerTimeout):
            clock.call(time.sleep, LONG)


def test_between_two_calls_nothing_is_interrupted() -> None:
    with Alarm(SHORT) as clock:
        clock.call(time.sleep, 0)
        time.sleep(3 * SHORT)
        with pytest.raises(HandlerTimeout):
            clock.call(time.sleep, LONG)
