"""Calls side by side, and how calling comes to an end: when told to stop, and when the one who asked goes away."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from callbacks import Event, ReportEvent
from tests.unit.test_caller import LONG, SHORT, Made, both, caller, keep_in, outcomes, reports
from workers.runtime.outcome import DONE, Failed


def test_async_calls_run_side_by_side_up_to_the_limit_and_start_in_order() -> None:
    running = most = 0
    started: list[str] = []

    async def take(event: ReportEvent) -> None:
        nonlocal running, most
        started.append(event.message_id)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running -= 1

    assert outcomes(take, reports(20), concurrency=4) == [DONE] * 20
    assert most == 4
    assert started == [str(i) for i in range(20)]


def test_an_outcome_is_given_as_soon_as_it_is_known() -> None:
    async def take(event: ReportEvent) -> None:
        if event.message_id == "0":
            await heard.wait()

    heard = asyncio.Event()
    with caller(take, concurrency=2) as calls:
        run = calls.call(reports(2))
        assert next(run) == (1, DONE)
        heard.set()
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

    told = outcomes(take, reports(6), concurrency=6, timeout_seconds=SHORT)
    assert [outcome.kind if isinstance(outcome, Failed) else "" for outcome in told] == [
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


# --- more that comes while calls are under way


class QueueState:
    """Events that wait behind those of a run, and how many it asked for, each time."""

    def __init__(self, *waiting: Event) -> None:
        self.waiting = list(waiting)
        self.asked: list[int] = []

    def more(self, most: int) -> list[Event]:
        self.asked.append(most)
        given, self.waiting = self.waiting[:most], self.waiting[most:]
        return given


def test_a_run_asks_for_an_event_for_each_hand_that_is_free() -> None:
    heard = asyncio.Event()

    async def take(event: ReportEvent) -> None:
        if event.message_id == "4":
            heard.set()
        await heard.wait()

    first, second, *others = reports(5)
    behind = QueueState(*others)
    with caller(take, concurrency=5) as calls:
        told = dict(calls.call([first, second], more=behind.more))

    assert told == dict.fromkeys(range(5), DONE)
    assert behind.asked == [3]


def test_what_came_with_the_wish_to_stop_is_not_called() -> None:
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


def test_nothing_joins_a_call_that_goes_on_although_its_time_is_over() -> None:
    # A run that goes on looks well to the watchdog, which is to end a process that cannot get rid of a call.
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


def test_an_interrupt_ends_the_calls_under_way_whoever_was_to_be_asked() -> None:
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
def test_once_told_to_stop_no_call_starts(made: Made, options: dict[str, Any]) -> None:
    seen: list[Any] = []
    singly = options.get("singly", False)
    with caller(made(keep_in(seen)), batch=options.get("batch", False)) as calls:
        assert list(calls.call(reports(5), singly=singly, stop=lambda: len(seen) >= 2)) == [(0, DONE), (1, DONE)]
        assert list(calls.call(reports(5), singly=singly, stop=lambda: True)) == []
    assert len(seen) == 2


@both
def test_once_told_to_stop_no_batch_starts(made: Made) -> None:
    seen: list[Any] = []
    with caller(made(keep_in(seen)), batch=True) as calls:
        assert list(calls.call(reports(5), stop=lambda: True)) == []
    assert seen == []


def test_once_told_to_stop_the_calls_under_way_are_waited_for() -> None:
    started: list[str] = []

    async def take(event: ReportEvent) -> None:
        started.append(event.message_id)
        await asyncio.sleep(SHORT)

    with caller(take, concurrency=3) as calls:
        told = list(calls.call(reports(9), stop=lambda: len(started) >= 3))
    assert started == ["0", "1", "2"]
    assert sorted(index for index, _ in told) == [0, 1, 2]


def test_closing_early_cancels_the_calls_under_way_and_waits_for_their_end() -> None:
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


def test_closing_early_between_blocking_calls_starts_no_more() -> None:
    seen: list[Any] = []
    with caller(keep_in(seen)) as calls:
        run = calls.call(reports(3))
        next(run)
        run.close()  # type: ignore[attr-defined] # as above
    assert len(seen) == 1
