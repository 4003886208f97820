"""One handler called with events here and now, as a worker calls it, with no queue and no Redis.

What became of each event is put into words; nothing is counted, and nothing comes again.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from shared.events import Event
from workers.declaration import Handler
from workers.deliver.call import lifespan
from workers.deliver.call.caller import Caller
from workers.deliver.call.lifespan import LifespanFailed
from workers.runtime import outcome as outcomes
from workers.runtime.outcome import Done, Failed, Outcome, Paused, Rejected, RetryRequested, Split

OutcomeName: TypeAlias = Literal["done", "failed", "retry", "rejected", "paused", "unready"]

_FAILURES: Final = {
    "exception": "it raised",
    "timeout": "its time was up",
    "cancelled": "it was cancelled, and not by its time-out",
    "exit": "it called exit()",
}


class DryRun(Struct, frozen=True, kw_only=True):
    """What one call did: to which events, for how long, and how it ended, in a word and in a sentence.

    `consequence` is what a worker would make of it; "" if the event is done.
    """

    events: tuple[Event, ...]
    outcome: OutcomeName
    sentence: str
    consequence: str
    seconds: float
    traceback: str = ""


def dry_run(caller: Caller, events: Sequence[Event]) -> Iterator[DryRun]:
    """Call the handler with the events: one by one, or as one batch, which is taken apart if it fails, as ever."""
    handler = caller.handler
    if handler.batch and len(events) > 1:
        began = time.monotonic()
        told = list(caller.call(events))
        outcome = told[0][1]  # of one call, so it is the same for all
        cause: Outcome = outcome.cause if isinstance(outcome, Split) else outcome
        yield _result(handler, tuple(events), cause, time.monotonic() - began)
        if not isinstance(outcome, Split):
            return
    for event in events:
        began = time.monotonic()
        for _, outcome in caller.call([event], singly=True):
            yield _result(handler, (event,), outcome, time.monotonic() - began)


def not_ready(error: LifespanFailed, events: Sequence[Event]) -> DryRun:
    """Say that the handler's lifespan could not be opened, so that it was called with none of the events."""
    outcome = outcomes.from_exception(
        error.__cause__ or error, hidden=frozenset((lifespan.__file__, contextlib.__file__))
    )
    told = outcome.error if isinstance(outcome, Failed) else error.cause
    return DryRun(
        events=tuple(events),
        outcome="unready",
        sentence=f"not called, as its lifespan could not be opened: {told}",
        consequence="A worker would end and be started again, until it can be; no event would lose an attempt.",
        seconds=0.0,
        traceback=outcome.traceback if isinstance(outcome, Failed) else "",
    )


def _result(handler: Handler, events: tuple[Event, ...], outcome: Outcome, seconds: float) -> DryRun:
    word, sentence, consequence = _describe(handler, outcome)
    traceback = outcome.traceback if isinstance(outcome, Failed) else ""
    return DryRun(
        events=events,
        outcome=word,
        sentence=sentence,
        consequence=consequence,
        seconds=seconds,
        traceback=traceback,
    )


def _describe(handler: Handler, outcome: Outcome) -> tuple[OutcomeName, str, str]:
    attempts = "this is its only attempt" if handler.attempts == 1 else f"up to {handler.attempts} attempts"
    if isinstance(outcome, Done):
        return "done", "done", ""
    if isinstance(outcome, Rejected):
        return "rejected", f"rejected: {outcome.reason}", "A worker would set it aside as a dead letter at once."
    if isinstance(outcome, Paused):
        told = f"asks for a pause of {outcome.after_seconds:g} s: {outcome.reason or '-'}"
        return "paused", told, "A worker would let its whole queue wait so long."
    if isinstance(outcome, RetryRequested):
        wait = "after the usual back-off" if outcome.after_seconds is None else f"after {outcome.after_seconds:g} s"
        return "retry", f"asks for another attempt: {outcome.reason}", f"A worker would try again {wait}, {attempts}."
    if isinstance(outcome, Failed):
        told = f"failed, {_FAILURES[outcome.kind]}: {outcome.error}"
        return "failed", told, f"A worker would try again after a while, {attempts}."
    return _describe(handler, outcome.cause)
