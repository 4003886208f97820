"""What a handler's lifespan opens is open during its calls, closed afterwards, and cannot block a process."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from callbacks import Pause, ReportEvent, Retry, handler
from tests.unit.test_caller import LONG, SHORT, outcomes, reports
from workers.declaration import ATTRIBUTE
from workers.deliver.call import lifespan as lifespans
from workers.deliver.call.caller import Caller
from workers.deliver.call.lifespan import LifespanFailed
from workers.runtime.outcome import REASON_BYTES, Paused, RetryRequested

MONTH = 30 * 86_400.0
# No float holds it.
LARGEST = 10**309


def caller(function: Callable[[Any], Any], lifespan: Any, *, timeout_seconds: float = LONG) -> Caller:
    decorated = handler(ReportEvent, name="it", lifespan=lifespan, timeout_seconds=timeout_seconds)(function)
    return Caller(getattr(decorated, ATTRIBUTE))


def test_it_is_opened_once_before_the_first_event_and_closed_after_the_last() -> None:
    recorded: list[str] = []

    @contextmanager
    def opened() -> Iterator[None]:
        recorded.append("opened")
        yield
        recorded.append("closed")

    with caller(lambda event: recorded.append(event.message_id), opened) as calls:
        list(calls.call(reports(2)))
        list(calls.call(reports(1)))
    calls.close()

    assert recorded == ["opened", "0", "1", "0", "closed"]


def test_an_async_one_runs_in_one_task_on_the_loop_of_the_calls_and_is_closed_before_the_loop() -> None:
    recorded: list[Any] = []

    async def close() -> None:
        recorded.append((asyncio.get_running_loop(), "closed"))

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        task = asyncio.current_task()
        # A task group must be left by the task that entered it.
        async with asyncio.TaskGroup() as group:
            recorded.append((asyncio.get_running_loop(), "opened"))
            yield
            group.create_task(close())
        assert asyncio.current_task() is task

    async def call(event: ReportEvent) -> None:
        recorded.append((asyncio.get_running_loop(), event.message_id))

    with caller(call, opened) as calls:
        list(calls.call(reports(2)))

    assert [word for _, word in recorded] == ["opened", "0", "1", "closed"]
    assert len({id(loop) for loop, _ in recorded}) == 1


def failing(secret: str) -> None:
    raise ConnectionRefusedError(secret)


@contextmanager
def plain_without_target() -> Iterator[None]:
    failing("nobody at 35699000001")
    yield


@asynccontextmanager
async def async_without_target() -> AsyncIterator[None]:
    failing("nobody at 35699000001")
    yield


@contextmanager
def plain_hanging() -> Iterator[None]:
    time.sleep(LONG)
    yield


@asynccontextmanager
async def async_hanging() -> AsyncIterator[None]:
    await asyncio.sleep(LONG)
    yield


@asynccontextmanager
async def async_clinging() -> AsyncIterator[None]:
    for _ in range(2):
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            continue
    await asyncio.sleep(LONG)
    yield


def uncalled(*, is_async: bool) -> Callable[[Any], Any]:
    """Return a new function, as each function is one handler."""

    def plain(event: ReportEvent) -> None:
        raise AssertionError("it was called")

    async def concurrent(event: ReportEvent) -> None:
        raise AssertionError("it was called")

    return concurrent if is_async else plain


@pytest.mark.parametrize(
    ("is_async", "lifespan", "cause"),
    [
        (False, plain_without_target, "ConnectionRefusedError at test_caller_lifespan.py:"),
        (True, async_without_target, "ConnectionRefusedError at test_caller_lifespan.py:"),
        (False, plain_hanging, "HandlerTimeout at test_caller_lifespan.py:"),
        (True, async_hanging, "HandlerTimeout at "),
        (True, async_clinging, "HandlerTimeout at "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_lifespan_that_cannot_be_opened_reports_type_and_line_and_no_message(
    is_async: bool, lifespan: Any, cause: str
) -> None:
    with pytest.raises(LifespanFailed) as caught, caller(uncalled(is_async=is_async), lifespan, timeout_seconds=SHORT):
        raise AssertionError("it says that it is open")

    assert caught.value.cause.startswith(cause)
    assert "35699000001" not in str(caught.value)


@contextmanager
def plain_sticking() -> Iterator[None]:
    yield
    time.sleep(LONG)


@asynccontextmanager
async def async_sticking() -> AsyncIterator[None]:
    yield
    await asyncio.sleep(LONG)


@contextmanager
def plain_breaking() -> Iterator[None]:
    yield
    failing("nobody at 35699000001")


@pytest.mark.parametrize(
    ("is_async", "lifespan", "cause"),
    [
        (False, plain_sticking, 'cause="HandlerTimeout at '),
        (True, async_sticking, 'cause="HandlerTimeout at '),
        (False, plain_breaking, 'cause="ConnectionRefusedError at '),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_error_while_closing_is_logged_and_affects_no_event(
    is_async: bool, lifespan: Any, cause: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifespans, "CLOSE_SECONDS", SHORT)
    with caplog.at_level(logging.WARNING), caller(uncalled(is_async=is_async), lifespan):
        pass

    assert "action=handler_lifespan_close_failed" in caplog.text
    assert cause in caplog.text
    assert "35699000001" not in caplog.text


# --- a pause is an outcome


@pytest.mark.parametrize("way", ["raised", "returned"])
@pytest.mark.parametrize("batch", [False, True])
def test_a_pause_is_the_outcome_of_each_event_of_the_call(way: str, batch: bool) -> None:
    def away(_: Any) -> Any:
        pause = Pause(30, "moving house")
        if way == "raised":
            raise pause
        return pause

    assert outcomes(away, reports(2), batch=batch) == [Paused(30.0, "moving house")] * 2


@pytest.mark.parametrize(("asked", "given"), [(0, 1.0), (0.2, 1.0), (7, 7.0), (1e12, 86_400.0), (LARGEST, 86_400.0)])
def test_a_pause_is_at_least_a_second_and_at_most_a_day_and_its_reason_is_truncated(asked: float, given: float) -> None:
    (outcome,) = outcomes(lambda _: Pause(asked, "ö" * 1000), reports(1), name="it")

    assert isinstance(outcome, Paused)
    assert outcome.after_seconds == given
    assert len(outcome.reason.encode()) <= REASON_BYTES


def test_one_that_ends_too_early_is_logged_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A task of its group failed: the handler then lacks what the lifespan opened."""
    ended: list[str] = []
    number = "35699000001"

    async def break_down() -> None:
        raise RuntimeError(number)

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        async with asyncio.TaskGroup():
            yield

    @asynccontextmanager
    async def breaking() -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(break_down())
            yield

    def function() -> Callable[[Any], Any]:
        async def call(event: ReportEvent) -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        return call

    for lifespan, expected in ((opened, []), (breaking, ["ended"])):
        decorated = handler(ReportEvent, name="it", lifespan=lifespan, timeout_seconds=LONG)(function())
        with Caller(getattr(decorated, ATTRIBUTE), on_lifespan_end=lambda: ended.append("ended")) as calls:
            list(calls.call(reports(2)))
        assert ended == expected

    (line,) = (record.getMessage() for record in caplog.records if "lifespan_ended" in record.getMessage())
    assert "handler=it" in line
    assert 'cause="RuntimeError at test_caller_lifespan.py' in line
    assert number not in caplog.text


@pytest.mark.parametrize(("asked", "given"), [(None, None), (0, 0.0), (7, 7.0), (1e12, MONTH), (LARGEST, MONTH)])
def test_a_retry_is_due_within_30_days(asked: float | None, given: float | None) -> None:
    assert outcomes(lambda _: Retry(asked, "busy"), reports(1), name="it") == [RetryRequested(given, "busy")]
