"""Calling a handler: each event has one outcome, whatever the handler does, and no failure affects another event."""

import asyncio
import functools
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from callbacks import Event, HandlerTimeout, Pause, Reject, ReportEvent, Retry, handler
from workers.declaration import ATTRIBUTE
from workers.deliver.call.caller import Caller
from workers.runtime.outcome import (
    DONE,
    ERROR_BYTES,
    TRACEBACK_BYTES,
    Failed,
    Outcome,
    Paused,
    Rejected,
    RetryRequested,
    Split,
)

NOW = datetime(2015, 9, 25, 7, 12, 54, tzinfo=UTC)
# A time-out that is to expire, but not for a call that takes no time even on a busy machine; and one that is not.
SHORT, LONG = 0.5, 30.0


def reports(number: int) -> list[Event]:
    """Return events whose message ids are "0", "1", "2" and so on."""
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
    """Return the outcomes in the order of the events, each of which must have one."""
    with caller(function, **options) as calls:
        results = list(calls.call(events, singly=singly))
    assert sorted(index for index, _ in results) == list(range(len(events)))
    return [outcome for _, outcome in sorted(results, key=lambda pair: pair[0])]


def outcome(function: Callable[[Any], Any], **options: Any) -> Outcome:
    (only,) = outcomes(function, reports(1), **options)
    return only


def failure(function: Callable[[Any], Any], **options: Any) -> Failed:
    only = outcome(function, **options)
    assert isinstance(only, Failed)
    return only


def keep_in(seen: list[Any]) -> Callable[[Any], None]:
    def take(argument: Any) -> None:
        seen.append(argument)

    return take


def as_async(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(function)
    async def wrapper(argument: Any) -> Any:
        return function(argument)

    return wrapper


# The same holds for `def` and `async def`.
both = pytest.mark.parametrize("made", [lambda function: function, as_async], ids=["def", "async def"])
Made = Callable[[Callable[[Any], Any]], Callable[[Any], Any]]


@both
def test_a_handler_that_returns_is_done_whatever_it_returns(made: Made) -> None:
    def take(event: ReportEvent) -> Any:
        return [None, False, ValueError("returned, not raised")][int(event.message_id)]

    assert outcomes(made(take), reports(3)) == [DONE] * 3


@both
def test_each_event_is_passed_once_and_in_order(made: Made) -> None:
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
        RetryRequested(2.5, "busy"),
        Rejected("unknown customer"),
        RetryRequested(None, "the handler asked for another attempt"),
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
def test_only_keyboard_interrupt_is_raised(made: Made) -> None:
    def take(event: ReportEvent) -> None:
        if event.message_id == "1":
            raise KeyboardInterrupt

    with caller(made(take)) as calls:
        run = calls.call(reports(3))
        assert next(run) == (0, DONE)
        with pytest.raises(KeyboardInterrupt):
            next(run)


@both
def test_a_returned_coroutine_is_a_failure(made: Made) -> None:
    async def inner(event: Event) -> None: ...

    def take(event: Event) -> Any:
        return inner(event)

    failed = failure(made(take))
    assert failed.error == (
        f"TypeError: {__name__}.{take.__qualname__} returned a coroutine, which is never run; "
        "a handler must be a plain def or async def"
    )


# --- the text of a failure


def raise_deep_down() -> None:
    raise LookupError("down here")


@both
def test_the_traceback_starts_at_the_handler(made: Made) -> None:
    def take(event: Event) -> None:
        raise_deep_down()

    traceback = failure(made(take)).traceback
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.endswith("LookupError: down here\n")
    assert "in raise_deep_down" in traceback
    assert "workers/deliver/call/caller.py" not in traceback
    assert "workers/deliver/call/timeout.py" not in traceback


def test_texts_are_truncated_and_the_traceback_keeps_its_end() -> None:
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
    ("error", "message"),
    [(Unspeakable(), "Unspeakable: <exception str() failed>"), (ValueError("\ud83d"), "ValueError: \\ud83d")],
)
def test_a_message_that_cannot_be_written_or_stored_is_replaced(error: Exception, message: str) -> None:
    def take(event: Event) -> None:
        raise error

    failed = failure(take)
    assert failed.error.endswith(message)
    failed.traceback.encode()


def test_endless_recursion_is_a_failure_like_any_other() -> None:
    def take(event: Event) -> None:
        take(event)

    assert failure(take).error.startswith("RecursionError")


def test_a_rejection_with_odd_characters_can_be_stored() -> None:
    assert outcome(rejecting("\ud83d")) == Rejected("\\ud83d")


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
def test_a_batch_handler_is_not_called_with_an_empty_list(made: Made) -> None:
    assert outcomes(made(rejecting("called")), [], batch=True) == []
    assert outcomes(made(rejecting("called")), []) == []


@both
@pytest.mark.parametrize("answer", [ValueError("one is bad"), Reject("one is bad")])
def test_a_batch_that_fails_is_split_and_then_only_the_bad_event_fails(made: Made, answer: Exception) -> None:
    def take(events: list[ReportEvent]) -> None:
        if any(event.message_id == "1" for event in events):
            raise answer

    with caller(made(take), batch=True) as calls:
        whole = [outcome for _, outcome in calls.call(reports(3))]
        first, second, third = (outcome for _, outcome in calls.call(reports(3), singly=True))

    assert whole[0] == whole[1] == whole[2]
    assert isinstance(whole[0], Split)
    assert (first, third) == (DONE, DONE)
    assert type(second) is type(whole[0].cause)


@both
def test_a_batch_whose_handler_asks_for_a_retry_or_a_pause_is_not_split(made: Made) -> None:
    for answer, expected in ((Retry(5, "busy"), RetryRequested(5, "busy")), (Pause(60, "shut"), Paused(60, "shut"))):

        def take(_events: list[ReportEvent], answer: Exception = answer) -> None:
            raise answer

        assert outcomes(made(take), reports(3), batch=True) == [expected] * 3


def test_a_batch_of_one_is_not_split() -> None:
    assert outcome(rejecting("no"), batch=True) == Rejected("no")


def test_the_cause_of_a_failure_has_type_and_line_and_no_message() -> None:
    def take(event: Event) -> None:
        raise ValueError('no\n  File "/orders/+35699000001", line 12, in pay')

    cause = failure(take).cause

    assert cause.startswith("ValueError at test_caller.py:")
    assert "35699000001" not in cause


def test_a_keyboard_interrupt_is_a_failure_in_a_worker() -> None:
    """A worker has its own signal handler for SIGINT, so there only the handler can have raised it."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:

        @handler(ReportEvent, name="sync")
        def sync(event: ReportEvent) -> None:
            raise KeyboardInterrupt

        @handler(ReportEvent, name="several", concurrency=2)
        async def several(event: ReportEvent) -> None:
            raise KeyboardInterrupt

        for function in (sync, several):
            with Caller(getattr(function, ATTRIBUTE)) as calls:
                found = [outcome for _, outcome in calls.call(reports(3))]
            assert [type(outcome) for outcome in found] == [Failed] * 3
    finally:
        signal.signal(signal.SIGINT, before)
