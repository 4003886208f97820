"""Loops that outlive unexpected exceptions: restarted, logged once, and reported while they keep failing (I10)."""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable

import pytest

from shared import background, uncaught
from shared.background import Background, Loop
from shared.rate_limited_log import EXCEPTION_INTERVAL_SECONDS
from tests.clock import Clock


class Broken(Exception):
    """An unexpected exception."""


MESSAGE = "35699000001"


def fail() -> None:
    raise Broken(MESSAGE)


def lines(caplog: pytest.LogCaptureFixture, action: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if f"action={action} " in record.getMessage()]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.001)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 # what it waits for sets no event
            await asyncio.sleep(0.001)


def test_a_task_that_fails_is_restarted_and_logged_with_its_places_but_no_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    starts: list[int] = []

    async def run() -> None:
        starts.append(1)
        if len(starts) == 1:
            fail()
        await asyncio.Event().wait()

    async def check() -> None:
        work = Background()
        task = work.start_task("drain", run)
        await until(lambda: len(starts) == 2)
        assert work.failing() == {}, "once may be chance"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(check())

    (line,) = lines(caplog, "loop_failed")
    assert line.startswith("action=loop_failed loop=drain count=1 error=Broken traceback=")
    assert "test_background.py" in line
    assert MESSAGE not in line


def test_a_task_that_keeps_failing_is_reported_and_healthy_again_after_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "MAX_PAUSE_SECONDS", 0.01)
    is_broken, starts = True, 0

    async def run() -> None:
        nonlocal starts
        starts += 1
        if is_broken:
            fail()
        await asyncio.Event().wait()

    async def check() -> None:
        nonlocal is_broken
        work = Background()
        task = work.start_task("drain", run)
        await until(lambda: work.failing() == {"drain": "Broken"})
        monkeypatch.setattr(background, "HEALTHY_AFTER_SECONDS", 0.05)
        # It counts from the next failure on.
        before = starts
        await until(lambda: starts > before)
        is_broken = False
        await until(lambda: work.failing() == {})
        task.cancel()

    asyncio.run(check())
    assert len(lines(caplog, "loop_failed")) == 1


def test_a_cancelled_future_does_not_end_the_task_that_awaits_it(caplog: pytest.LogCaptureFixture) -> None:
    """Only what it awaits was cancelled, as a driver may do with a future of its own."""
    starts: list[int] = []

    async def run() -> None:
        starts.append(1)
        if len(starts) == 1:
            cancelled = asyncio.get_running_loop().create_future()
            cancelled.cancel()
            await cancelled
        await asyncio.Event().wait()

    async def check() -> None:
        task = Background().start_task("drain", run)
        await until(lambda: len(starts) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(check())
    assert len(lines(caplog, "loop_failed")) == 1


def test_a_task_that_returns_has_ended() -> None:
    async def run() -> None:
        return

    async def check() -> None:
        await Background().start_task("group_commit", run)

    asyncio.run(check())


def test_a_thread_continues_with_its_next_round(caplog: pytest.LogCaptureFixture) -> None:
    ending, rounds, well = threading.Event(), [0], threading.Event()

    def step() -> None:
        rounds[0] += 1
        if rounds[0] <= 3:
            fail()
        well.set()

    work = Background()
    thread = work.make_thread("metrics_push", step, every_seconds=0.001, ending=ending)
    thread.start()
    assert well.wait(30)
    ending.set()
    thread.join(30)

    assert work.failing() == {}
    assert len(lines(caplog, "loop_failed")) == 1
    assert lines(caplog, "loop_recovered") == ["action=loop_recovered loop=metrics_push failures=3"]


def test_pauses_grow_to_a_limit_and_are_reset_once_the_loop_was_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.1)
    clock = Clock()
    loop = Loop("drain", now_seconds=clock)

    assert [loop.failed(Broken()) for _ in range(3)] == [0.1, 0.2, 0.4]
    assert max(loop.failed(Broken()) for _ in range(2000)) == background.MAX_PAUSE_SECONDS
    clock.seconds += background.MAX_PAUSE_SECONDS + background.HEALTHY_AFTER_SECONDS
    assert loop.error is None
    assert loop.failed(Broken()) == 0.1


def test_a_loop_that_keeps_failing_is_logged_again_after_a_minute_with_a_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    loop = Loop("drain", now_seconds=clock)
    for _ in range(5):
        loop.attempt(fail)
    clock.seconds += EXCEPTION_INTERVAL_SECONDS
    loop.attempt(fail)

    assert [line.split()[2] for line in lines(caplog, "loop_failed")] == ["count=1", "count=5"]
    assert loop.error == "Broken", "a step that fails, fails until it goes well"
    loop.attempt(list)
    assert loop.error is None


def test_exceptions_of_the_types_reraise_are_raised() -> None:
    with pytest.raises(Broken):
        Loop("maintenance").attempt(fail, reraise=(Broken,))


def test_an_exception_that_ends_a_thread_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", uncaught._in_thread)
    thread = threading.Thread(target=fail, name="anybody")
    thread.start()
    thread.join()

    (line,) = lines(caplog, "uncaught")
    assert line.startswith("action=uncaught where=thread name=anybody count=1 error=Broken traceback=")
    assert MESSAGE not in line


def test_an_exception_in_a_destructor_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closing:
        def __del__(self) -> None:
            fail()

    monkeypatch.setattr("sys.unraisablehook", uncaught._unraisable)
    Closing()
    gc.collect()

    (line,) = lines(caplog, "uncaught")
    assert line.startswith("action=uncaught where=destructor")


def test_exceptions_in_a_callback_and_in_a_task_that_nobody_awaits_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        fail()

    async def check() -> None:
        loop = asyncio.get_running_loop()
        uncaught.watch(loop)
        task = loop.create_task(run())
        await asyncio.wait([task])
        del task
        loop.call_soon(lambda _body: fail(), MESSAGE)
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(check())

    found = lines(caplog, "uncaught")
    assert len(found) == 2
    assert all("error=Broken" in line and MESSAGE not in line for line in found)


def test_an_exception_handler_that_is_set_already_stays() -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        theirs = lambda _loop, _context: None  # noqa: E731
        loop.set_exception_handler(theirs)
        uncaught.watch(loop)
        assert loop.get_exception_handler() is theirs

    asyncio.run(check())


def test_a_failure_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    Loop("drain").failed(Broken())

    assert [record.levelno for record in caplog.records] == [logging.ERROR]
