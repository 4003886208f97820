"""Concurrent calls, and how calling ends: when asked to stop, and when the iterator is closed."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from callbacks import Event, ReportEvent
from tests.unit.test_caller import LONG, SHORT, Made, both, caller, keep_in, outcomes, reports
from workers.runtime.outcome import DONE, Failed


def test_async_calls_run_concurrently_up_to_the_limit_and_start_in_order() -> None:
    running = max_running = 0
    started: list[str] = []

    async def take(event: ReportEvent) -> None:
        nonlocal running, max_running
        started.append(event.message_id)
        running += 1
        max_running = max(max_running, running)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running -= 1

    assert outcomes(take, reports(20), concurrency=4) == [DONE] * 20
    assert max_running == 4
    assert started == [str(i) for i in range(20)]


def test_an_outcome_is_yielded_as_soon_as_it_is_known() -> None:
    async def take(event: ReportEvent) -> None:
        if event.message_id == "0":
            await is_released.wait()

    is_released = asyncio.Event()
    with caller(take, concurrency=2) as calls:
        run = calls.call(reports(2))
        assert next(run) == (1, DONE)
        is_released.set()
        assert list(run) == [(0, DONE)]


def test_concurrent_failures_are_each_events_own() -> None:
    async def take(event: ReportEvent) -> None:
        await asyncio.sleep(0)
        match event.message_id:
            case "1":
                raise ValueError("bad")
            case "2":
                await asyncio.sleep(LONG)
            case "3":
                raise SystemExit
            case "4":
                raise asyncio.CancelledError

    results = outcomes(take, reports(6), concurrency=6, timeout_seconds=SHORT)
    assert [outcome.kind if isinstance(outcome, Failed) else "" for outcome in results] == [
        "", "exception", "timeout", "exit", "cancelled", "",
    ]  # fmt: skip


def test_a_task_of_the_handler_that_exits_is_that_events_failure() -> None:
    async def leave() -> None:
        raise SystemExit("from a task")

    async def take(event: ReportEvent) -> None:
        if event.message_id == "1":
            await asyncio.create_task(leave())
        await asyncio.sleep(0)

    first, second, third = outcomes(take, reports(3), concurrency=3)
    assert (first, third) == (DONE, DONE)
    assert isinstance(second, Failed)
    assert second.kind == "exit"


def test_the_event_loop_lives_from_batch_to_batch_and_ends_with_the_caller() -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    forgotten: list[asyncio.Task[None]] = []

    async def take(event: Event) -> None:
        loops.append(asyncio.get_running_loop())
        forgotten.append(asyncio.create_task(asyncio.sleep(LONG)))

    calls = caller(take)
    assert list(calls.call(reports(1))) == [(0, DONE)]
    assert list(calls.call(reports(2))) == [(0, DONE), (1, DONE)]
    assert len(set(map(id, loops))) == 1
    calls.close()
    calls.close()
    assert loops[0].is_closed()
    assert all(task.cancelled() for task in forgotten)


# --- events that join while calls are in flight


class QueueState:
    """Events that wait behind those of a run, and how many the run asked for, each time."""

    def __init__(self, *waiting: Event) -> None:
        self.waiting = list(waiting)
        self.asked: list[int] = []

    def more(self, free_slots: int) -> list[Event]:
        self.asked.append(free_slots)
        given, self.waiting = self.waiting[:free_slots], self.waiting[free_slots:]
        return given


def test_a_run_asks_for_an_event_for_each_free_slot() -> None:
    is_released = asyncio.Event()

    async def take(event: ReportEvent) -> None:
        if event.message_id == "4":
            is_released.set()
        await is_released.wait()

    first, second, *others = reports(5)
    behind = QueueState(*others)
    with caller(take, concurrency=5) as calls:
        results = dict(calls.call([first, second], more=behind.more))

    assert results == dict.fromkeys(range(5), DONE)
    assert behind.asked == [3]


def test_events_that_join_when_the_worker_is_to_stop_are_not_called() -> None:
    seen: list[str] = []

    async def take(event: ReportEvent) -> None:
        seen.append(event.message_id)
        await asyncio.sleep(SHORT)

    first, *others = reports(3)
    behind = QueueState(*others)
    with caller(take, concurrency=3) as calls:
        assert list(calls.call([first], stop=lambda: bool(behind.asked), more=behind.more)) == [(0, DONE)]

    assert behind.waiting == []
    assert seen == ["0"]


def test_no_event_joins_while_a_call_runs_over_its_time() -> None:
    # A run that continues keeps disarming the watchdog, which is to end a process that cannot end a call.
    asked: list[int] = []
    behind = QueueState()

    async def take(event: ReportEvent) -> None:
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(LONG)
            asked.append(len(behind.asked))

    with caller(take, concurrency=2, timeout_seconds=SHORT) as calls:
        assert list(calls.call(reports(1), more=behind.more)) == [(0, DONE)]

    assert asked[0] > 0
    assert set(asked) == {asked[0]}


def test_an_interrupt_ends_the_calls_in_flight() -> None:
    ended: list[str] = []

    async def take(event: ReportEvent) -> None:
        if event.message_id == "1":
            raise KeyboardInterrupt
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(SHORT)
            ended.append(event.message_id)

    with caller(take, concurrency=3) as calls, pytest.raises(KeyboardInterrupt):
        list(calls.call(reports(2), more=QueueState().more))

    assert ended == ["0"]


# --- stopping


@both
@pytest.mark.parametrize("options", [{}, {"batch": True, "singly": True}])
def test_after_a_stop_no_call_starts(made: Made, options: dict[str, Any]) -> None:
    seen: list[Any] = []
    singly = options.get("singly", False)
    with caller(made(keep_in(seen)), batch=options.get("batch", False)) as calls:
        assert list(calls.call(reports(5), singly=singly, stop=lambda: len(seen) >= 2)) == [(0, DONE), (1, DONE)]
        assert list(calls.call(reports(5), singly=singly, stop=lambda: True)) == []
    assert len(seen) == 2


@both
def test_after_a_stop_no_batch_starts(made: Made) -> None:
    seen: list[Any] = []
    with caller(made(keep_in(seen)), batch=True) as calls:
        assert list(calls.call(reports(5), stop=lambda: True)) == []
    assert seen == []


def test_after_a_stop_the_calls_in_flight_are_waited_for() -> None:
    started: list[str] = []

    async def take(event: ReportEvent) -> None:
        started.append(event.message_id)
        await asyncio.sleep(SHORT)

    with caller(take, concurrency=3) as calls:
        results = list(calls.call(reports(9), stop=lambda: len(started) >= 3))
    assert started == ["0", "1", "2"]
    assert sorted(index for index, _ in results) == [0, 1, 2]


def test_closing_early_cancels_the_calls_in_flight_and_waits_for_their_end() -> None:
    ended: list[str] = []

    async def take(event: ReportEvent) -> None:
        if event.message_id == "0":
            return
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(0)
            ended.append(event.message_id)

    with caller(take, concurrency=3) as calls:
        run = calls.call(reports(9))
        assert next(run) == (0, DONE)
        assert isinstance(run, Iterator)
        run.close()  # type: ignore[attr-defined] # an Iterator to its users, a generator in truth
        assert ended == ["1", "2"]
        assert list(calls.call([])) == []


def test_closing_early_between_blocking_calls_starts_no_further_call() -> None:
    seen: list[Any] = []
    with caller(keep_in(seen)) as calls:
        run = calls.call(reports(3))
        next(run)
        run.close()  # type: ignore[attr-defined] # as above
    assert len(seen) == 1
