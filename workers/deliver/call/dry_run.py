"""One handler is called with events as a worker calls it, without a queue and without Redis.

The outcome of each event is described in a sentence. Nothing is counted and nothing is retried.
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
    "timeout": "it timed out",
    "cancelled": "it was cancelled, and not by its time-out",
    "exit": "it called exit()",
}


class DryRun(Struct, frozen=True, kw_only=True):
    """One call: its events, how long it took, and its outcome, as a name and as a sentence.

    `consequence` is what a worker would do next; "" if the event is done.
    """

    events: tuple[Event, ...]
    outcome: OutcomeName
    sentence: str
    consequence: str
    seconds: float
    traceback: str = ""


def dry_run(caller: Caller, events: Sequence[Event]) -> Iterator[DryRun]:
    """Call the handler with the events: one by one, or as one batch, which is split if it fails."""
    handler = caller.handler
    if handler.batch and len(events) > 1:
        began = time.monotonic()
        results = list(caller.call(events))
        outcome = results[0][1]  # of one call, so it is the same for all
        cause: Outcome = outcome.cause if isinstance(outcome, Split) else outcome
        yield _result(handler, tuple(events), cause, time.monotonic() - began)
        if not isinstance(outcome, Split):
            return
    for event in events:
        began = time.monotonic()
        for _, outcome in caller.call([event], singly=True):
            yield _result(handler, (event,), outcome, time.monotonic() - began)


def not_ready(error: LifespanFailed, events: Sequence[Event]) -> DryRun:
    """Return the result for a handler that was not called, as its lifespan could not be opened."""
    outcome = outcomes.from_exception(
        error.__cause__ or error, hidden=frozenset((lifespan.__file__, contextlib.__file__))
    )
    problem = outcome.error if isinstance(outcome, Failed) else error.cause
    return DryRun(
        events=tuple(events),
        outcome="unready",
        sentence=f"not called, as its lifespan could not be opened: {problem}",
        consequence="A worker would exit and be restarted until it can be opened; no event would lose an attempt.",
        seconds=0.0,
        traceback=outcome.traceback if isinstance(outcome, Failed) else "",
    )


def _result(handler: Handler, events: tuple[Event, ...], outcome: Outcome, seconds: float) -> DryRun:
    name, sentence, consequence = _describe(handler, outcome)
    traceback = outcome.traceback if isinstance(outcome, Failed) else ""
    return DryRun(
        events=events,
        outcome=name,
        sentence=sentence,
        consequence=consequence,
        seconds=seconds,
        traceback=traceback,
    )


def _describe(handler: Handler, outcome: Outcome) -> tuple[OutcomeName, str, str]:
    attempts = "this is its only attempt" if handler.attempts == 1 else f"up to {handler.attempts} attempts"
    if isinstance(outcome, Done):
        return "done", f"done: {outcome.text}" if outcome.text else "done", ""
    if isinstance(outcome, Rejected):
        return "rejected", f"rejected: {outcome.reason}", "A worker would make it a dead letter at once."
    if isinstance(outcome, Paused):
        sentence = f"asks for a pause of {outcome.after_seconds:g} s: {outcome.reason or '-'}"
        return "paused", sentence, "A worker would pause the handler for that long."
    if isinstance(outcome, RetryRequested):
        wait = "after the usual backoff" if outcome.after_seconds is None else f"after {outcome.after_seconds:g} s"
        return "retry", f"asks for a retry: {outcome.reason}", f"A worker would retry it {wait}, {attempts}."
    if isinstance(outcome, Failed):
        sentence = f"failed, {_FAILURES[outcome.kind]}: {outcome.error}"
        return "failed", sentence, f"A worker would retry it after a backoff, {attempts}."
    return _describe(handler, outcome.cause)
