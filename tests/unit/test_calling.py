"""Calling a handler: one outcome for each event, whatever the handler does, and no event's trouble is another's."""

import asyncio
import contextlib
import functools
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import pytest

from workers import Event, HandlerTimeout, Reject, ReportEvent, Retry, alarm, handler
from workers.calling import Caller
from workers.declaration import ATTRIBUTE
from workers.outcomes import DONE, ERROR_BYTES, TRACEBACK_BYTES, Again, Apart, Failed, Outcome, Rejected

NOW = datetime(2015, 9, 25, 7, 12, 54, tzinfo=UTC)
# A time-out that is meant to be over, and one that is never meant to be.
SHORT, LONG = 0.15, 30.0


def reports(number: int) -> list[Event]:
    """Give events whose message ids are "0", "1", "2" and so on."""
    return [
        ReportEvent(
            id=f"r{i}", source="main", api_job_id=None, client_job_id=None, message_id=str(i), client_message_id=None,
            channel="SMS", status="DELIVRD", is_final=True, occurred_at=NOW, sender="Fortytwo",
            recipient="35679000123", error_code=0, received_at=NOW, raw={"message_id": str(i)},
        )
        for i in range(number)
    ]  # fmt: skip


def caller(function: Callable[[Any], Any], **options: Any) -> Caller:
    decorated = handler(ReportEvent, **{"timeout_seconds": LONG, **options})(function)
    return Caller(getattr(decorated, ATTRIBUTE))


def outcomes(
    function: Callable[[Any], Any], events: list[Event], *, singly: bool = False, **options: Any
) -> list[Outcome]:
    """Give the outcomes in the order of the events, each of which must have one."""
    with caller(function, **options) as calls:
        told = list(calls.run(events, singly=singly))
    assert sorted(index for index, _ in told) == list(range(len(events)))
    return [outcome for _, outcome in sorted(told, key=lambda pair: pair[0])]


def outcome(function: Callable[[Any], Any], **options: Any) -> Outcome:
    (only,) = outcomes(function, reports(1), **options)
    return only


def failure(function: Callable[[Any], Any], **options: Any) -> Failed:
    only = outcome(function, **options)
    assert isinstance(only, Failed)
    return only


def as_async(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(function)
    async def wrapper(argument: Any) -> Any:
        return function(argument)

    return wrapper


# What goes for `def` goes for `async def`.
both = pytest.mark.parametrize("made", [lambda function: function, as_async], ids=["def", "async def"])
Made = Callable[[Callable[[Any], Any]], Callable[[Any], Any]]


@pytest.fixture(autouse=True)
def _alarm_clock_is_left_as_it_was() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@both
def test_a_handler_that_returns_is_done_whatever_it_returns(made: Made) -> None:
    def take(event: ReportEvent) -> Any:
        return [None, False, ValueError("returned, not raised")][int(event.message_id)]

    assert outcomes(made(take), reports(3)) == [DONE] * 3


@both
def test_each_event_is_handed_over_once_and_in_order(made: Made) -> None:
    seen: list[Event] = []

    def take(event: Event) -> None:
        seen.append(event)

    events = reports(5)
    assert outcomes(made(take), events) == [DONE] * 5
    assert seen == events


@both
def test_one_events_failure_is_its_own(made: Made) -> None:
    def take(event: ReportEvent) -> None:
        if event.message_id == "1":
            raise ValueError("no such customer")

    first, second, third = outcomes(made(take), reports(3))
    assert (first, third) == (DONE, DONE)
    assert isinstance(second, Failed)
    assert (second.error, second.kind) == ("ValueError: no such customer", "exception")


@both
@pytest.mark.parametrize("how", ["raise", "return"])
def test_retry_and_reject_may_be_raised_or_returned(made: Made, how: str) -> None:
    def take(event: ReportEvent) -> Any:
        answer = (Retry(2.5, "busy"), Reject("unknown customer"), Retry())[int(event.message_id)]
        if how == "raise":
            raise answer
        return answer

    assert outcomes(made(take), reports(3)) == [
        Again(2.5, "busy"),
        Rejected("unknown customer"),
        Again(None, "the handler asked for another attempt"),
    ]


@both
@pytest.mark.parametrize(
    ("raised", "error", "kind"),
    [
        (SystemExit(3), "SystemExit: 3", "exit"),
        (asyncio.CancelledError("mine"), "asyncio.exceptions.CancelledError: mine", "cancelled"),
        (GeneratorExit(), "GeneratorExit", "exception"),
        (BaseException("odd"), "BaseException: odd", "exception"),
        (ExceptionGroup("two", [ValueError("a")]), "ExceptionGroup: two (1 sub-exception)", "exception"),
        (HandlerTimeout(7), "workers.signals.HandlerTimeout: not done after 7 s", "timeout"),
    ],
)
def test_nothing_that_a_handler_raises_ends_the_worker(
    made: Made, raised: BaseException, error: str, kind: str
) -> None:
    def take(event: Event) -> None:
        raise raised

    failed = failure(made(take))
    assert (failed.error, failed.kind) == (error, kind)


@both
def test_only_keyboard_interrupt_goes_through(made: Made) -> None:
    def take(event: ReportEvent) -> None:
        if event.message_id == "1":
            raise KeyboardInterrupt

    with caller(made(take)) as calls:
        run = calls.run(reports(3))
        assert next(run) == (0, DONE)
        with pytest.raises(KeyboardInterrupt):
            next(run)


@both
def test_a_coroutine_that_nobody_runs_is_no_success(made: Made) -> None:
    async def inner(event: Event) -> None: ...

    def take(event: Event) -> Any:
        return inner(event)

    failed = failure(made(take))
    assert failed.error == f"TypeError: {__name__}.{take.__qualname__} returned a coroutine that nobody runs"


# --- what is told of a failure


def raise_deep_down() -> None:
    raise LookupError("down here")


@both
def test_the_traceback_begins_at_the_handler(made: Made) -> None:
    def take(event: Event) -> None:
        raise_deep_down()

    told = failure(made(take)).traceback
    assert told.startswith("Traceback (most recent call last):\n")
    assert told.endswith("LookupError: down here\n")
    assert "in raise_deep_down" in told
    assert "workers/calling.py" not in told
    assert "workers/alarm.py" not in told


def test_texts_are_cut_to_size_and_the_traceback_keeps_its_end() -> None:
    def take(event: Event) -> None:
        raise ValueError("ä" * 100_000 + "the end")

    failed = failure(take)
    assert ERROR_BYTES - 3 < len(failed.error.encode()) <= ERROR_BYTES
    assert failed.error.startswith("ValueError: ää")
    assert TRACEBACK_BYTES - 3 < len(failed.traceback.encode()) <= TRACEBACK_BYTES
    assert failed.traceback.endswith("ä" "the end\n")  # fmt: skip
    rejected = outcome(rejecting("x" * 100_000))
    assert isinstance(rejected, Rejected)
    assert len(rejected.reason.encode()) == ERROR_BYTES


def rejecting(reason: str) -> Callable[[Any], None]:
    def take(event: Event) -> None:
        raise Reject(reason)

    return take


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "told"),
    [(Unspeakable(), "Unspeakable: <exception str() failed>"), (ValueError("\ud83d"), "ValueError: \\ud83d")],
)
def test_what_cannot_be_told_or_stored_is_told_in_another_way(error: Exception, told: str) -> None:
    def take(event: Event) -> None:
        raise error

    failed = failure(take)
    assert failed.error.endswith(told)
    failed.traceback.encode()


def test_endless_recursion_is_a_failure_like_any_other() -> None:
    def take(event: Event) -> None:
        take(event)

    assert failure(take).error.startswith("RecursionError")


def test_a_rejection_with_odd_characters_can_be_stored() -> None:
    assert outcome(rejecting("\ud83d")) == Rejected("\\ud83d")


# --- time-outs


def test_a_blocking_call_is_ended_when_its_time_is_over() -> None:
    def take(event: ReportEvent) -> None:
        if event.message_id == "1":
            time.sleep(LONG)

    first, second, third = outcomes(take, reports(3), timeout_seconds=SHORT)
    assert (first, third) == (DONE, DONE)
    assert isinstance(second, Failed)
    assert (second.kind, second.error) == ("timeout", "workers.signals.HandlerTimeout: not done after 0.15 s")
    assert "time.sleep(LONG)" in second.traceback


def test_a_waiting_coroutine_is_ended_when_its_time_is_over() -> None:
    async def take(event: ReportEvent) -> None:
        if event.message_id == "1":
            await asyncio.sleep(LONG)

    first, second, third = outcomes(take, reports(3), timeout_seconds=SHORT)
    assert (first, third) == (DONE, DONE)
    assert isinstance(second, Failed)
    assert (second.kind, second.error) == ("timeout", "workers.signals.HandlerTimeout: not done after 0.15 s")
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


def test_a_handler_that_catches_every_exception_is_ended_all_the_same() -> None:
    def take(event: Event) -> None:
        while True:
            with contextlib.suppress(Exception):
                time.sleep(LONG)

    assert failure(take, timeout_seconds=SHORT).kind == "timeout"


def test_a_handler_that_swallows_its_time_out_is_told_again() -> None:
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


def test_a_handler_that_heard_its_time_out_and_returned_is_done() -> None:
    def take(event: Event) -> None:
        with contextlib.suppress(HandlerTimeout):
            time.sleep(LONG)

    async def take_async(event: Event) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)

    assert outcome(take, timeout_seconds=SHORT) == DONE
    assert outcome(take_async, timeout_seconds=SHORT) == DONE


@both
def test_a_handlers_own_timeout_error_is_no_time_out_of_ours(made: Made) -> None:
    def take(event: Event) -> None:
        raise TimeoutError("the database")

    assert failure(made(take)).kind == "exception"


def test_a_batch_has_one_time_for_all_of_it() -> None:
    def take(events: list[Event]) -> None:
        time.sleep(LONG)

    told = outcomes(take, reports(2), batch=True, timeout_seconds=SHORT)
    assert told[0] == told[1]
    assert isinstance(told[0], Apart)
    assert isinstance(told[0].cause, Failed)
    assert told[0].cause.kind == "timeout"


def test_an_alarm_that_was_set_before_goes_on_after_the_call_and_never_rings_inside() -> None:
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
        assert outcome(_into([])) == DONE
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < LONG
        assert signal.getsignal(signal.SIGALRM) is outer
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_limit_inside_a_limit_leaves_the_outer_one_standing() -> None:
    def inner(_: None) -> None:
        time.sleep(LONG)

    def outer(_: None) -> None:
        with contextlib.suppress(HandlerTimeout):
            alarm.within(SHORT, inner, None)
        time.sleep(LONG)

    with pytest.raises(HandlerTimeout, match=r"not done after 0\.5 s"):
        alarm.within(0.5, outer, None)


# --- batches


@both
def test_a_batch_handler_gets_one_list(made: Made) -> None:
    seen: list[list[Event]] = []

    def take(events: list[Event]) -> None:
        seen.append(list(events))
        events.clear()  # it is the handler's own list

    events = reports(3)
    assert outcomes(made(take), events, batch=True) == [DONE] * 3
    assert seen == [events]
    assert len(events) == 3


@both
def test_a_batch_handler_is_not_called_for_nothing(made: Made) -> None:
    assert outcomes(made(rejecting("called")), [], batch=True) == []
    assert outcomes(made(rejecting("called")), []) == []


@both
@pytest.mark.parametrize("answer", [ValueError("one is bad"), Retry(5), Reject("one is bad")])
def test_a_batch_that_fails_is_to_be_taken_apart_and_then_fails_for_the_bad_event_alone(
    made: Made, answer: Exception
) -> None:
    def take(events: list[ReportEvent]) -> None:
        if any(event.message_id == "1" for event in events):
            raise answer

    with caller(made(take), batch=True) as calls:
        whole = [outcome for _, outcome in calls.run(reports(3))]
        first, second, third = (outcome for _, outcome in calls.run(reports(3), singly=True))

    assert whole[0] == whole[1] == whole[2]
    assert isinstance(whole[0], Apart)
    assert (first, third) == (DONE, DONE)
    assert type(second) is type(whole[0].cause)


def test_a_batch_of_one_needs_no_taking_apart() -> None:
    assert outcome(rejecting("no"), batch=True) == Rejected("no")


# --- concurrency


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
        run = calls.run(reports(2))
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
    assert list(calls.run(reports(1))) == [(0, DONE)]
    assert list(calls.run(reports(2))) == [(0, DONE), (1, DONE)]
    assert len(set(map(id, loops))) == 1
    calls.close()
    calls.close()
    assert loops[0].is_closed()
    assert all(task.cancelled() for task in forgotten)


# --- stopping


@both
@pytest.mark.parametrize("options", [{}, {"batch": True, "singly": True}])
def test_once_told_to_stop_no_call_starts(made: Made, options: dict[str, Any]) -> None:
    seen: list[Any] = []
    singly = options.get("singly", False)
    with caller(made(_into(seen)), batch=options.get("batch", False)) as calls:
        assert list(calls.run(reports(5), singly=singly, stop=lambda: len(seen) >= 2)) == [(0, DONE), (1, DONE)]
        assert list(calls.run(reports(5), singly=singly, stop=lambda: True)) == []
    assert len(seen) == 2


def _into(seen: list[Any]) -> Callable[[Any], None]:
    def take(argument: Any) -> None:
        seen.append(argument)

    return take


@both
def test_once_told_to_stop_no_batch_starts(made: Made) -> None:
    seen: list[Any] = []
    with caller(made(_into(seen)), batch=True) as calls:
        assert list(calls.run(reports(5), stop=lambda: True)) == []
    assert seen == []


def test_once_told_to_stop_the_calls_under_way_are_waited_for() -> None:
    started: list[str] = []

    async def take(event: ReportEvent) -> None:
        started.append(event.message_id)
        await asyncio.sleep(SHORT)

    with caller(take, concurrency=3) as calls:
        told = list(calls.run(reports(9), stop=lambda: len(started) >= 3))
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
        run = calls.run(reports(9))
        assert next(run) == (0, DONE)
        assert isinstance(run, Iterator)
        run.close()  # type: ignore[attr-defined] # an Iterator to its users, a generator in truth
        assert ended == ["1", "2"]
        assert list(calls.run([])) == []


def test_closing_early_between_blocking_calls_starts_no_more() -> None:
    seen: list[Any] = []
    with caller(_into(seen)) as calls:
        run = calls.run(reports(3))
        next(run)
        run.close()  # type: ignore[attr-defined] # as above
    assert len(seen) == 1
