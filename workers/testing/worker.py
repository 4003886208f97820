"""A worker of one handler without a queue: it calls the handler as a worker process does and returns the results.

The calls are those of the service (`workers.deliver.call`). What needs a queue is missing: a failed event is not
retried, and a pause ends after the events that were delivered together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from shared.events import Event
from workers.declaration import ATTRIBUTE, Handler
from workers.deliver.call.caller import Caller
from workers.runtime.outcome import Done, Failed, Outcome, Paused, Rejected, RetryRequested, Split

OutcomeName: TypeAlias = Literal["done", "retry", "rejected", "failed", "paused", "filtered"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one event.

    `outcome`: "done"; "retry", "rejected", "paused": the handler raised Retry, Reject or Pause; "failed": it raised
    something else or timed out; "filtered": its filters exclude the event, so it was not called. `reason` is the
    handler's, or the error as "Type: message". `after_seconds` is the delay that the handler asked for, or None.
    """

    outcome: OutcomeName
    reason: str = ""
    after_seconds: float | None = None
    event: Event = field(kw_only=True, repr=False)
    traceback: str = field(default="", repr=False)


class Worker:
    """A worker of `handler`, a function decorated with @handler; a context manager, for the main thread.

    While it is entered, the handler's `lifespan` is entered and an async handler's event loop runs. Use it in a plain
    `def`, because it runs a loop of its own. Raise TypeError for a function that is not a handler.
    """

    def __init__(self, handler: Callable[..., Any] | Handler) -> None:
        declared = handler if isinstance(handler, Handler) else getattr(handler, ATTRIBUTE, None)
        if not isinstance(declared, Handler):
            raise TypeError(f"{handler!r} is not decorated with @handler")
        self._handler = declared
        self._caller: Caller | None = None

    def __enter__(self) -> Self:
        caller = Caller(self._handler)
        caller.__enter__()
        self._caller = caller
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        caller, self._caller = self._caller, None
        if caller is not None:
            caller.__exit__(kind, error, trace)

    def deliver(self, event: Event) -> Result:
        """Deliver one event and return the result; a batch handler gets a list of one."""
        (result,) = self.deliver_all([event])
        return result

    def deliver_all(self, events: Sequence[Event]) -> list[Result]:
        """Deliver events that wait together and return a result for each, in their order.

        A batch handler gets one list of the events that it wants; if that fails, lists of one.
        """
        wanted = [index for index, event in enumerate(events) if self._handler.wants(event)]
        outcomes = self._outcomes([events[index] for index in wanted])
        results = [Result("filtered", event=event) for event in events]
        for index, outcome in zip(wanted, outcomes, strict=True):
            results[index] = _result(events[index], outcome)
        return results

    def _outcomes(self, events: Sequence[Event]) -> list[Outcome]:
        if self._caller is None:
            raise RuntimeError("the worker is not open: with Worker(handler) as worker: …")
        found: dict[int, Outcome] = {}
        split: list[int] = []
        for index, outcome in self._caller.call(events, stop=lambda: _pause(found) is not None):
            if isinstance(outcome, Split):
                split.append(index)
            else:
                found[index] = outcome
        singly = self._caller.call(
            [events[index] for index in split], singly=True, stop=lambda: _pause(found) is not None
        )
        for index, outcome in singly:
            found[split[index]] = outcome
        # Events that were not delivered after a pause are paused too.
        paused = _pause(found)
        return [found[index] if paused is None else found.get(index, paused) for index in range(len(events))]


def _pause(found: Mapping[int, Outcome]) -> Paused | None:
    return next((outcome for outcome in found.values() if isinstance(outcome, Paused)), None)


def _result(event: Event, outcome: Outcome) -> Result:
    if isinstance(outcome, Done):
        return Result("done", event=event)
    if isinstance(outcome, RetryRequested):
        return Result("retry", outcome.reason, outcome.after_seconds, event=event)
    if isinstance(outcome, Paused):
        return Result("paused", outcome.reason, outcome.after_seconds, event=event)
    if isinstance(outcome, Rejected):
        return Result("rejected", outcome.reason, event=event)
    if isinstance(outcome, Failed):
        return Result("failed", outcome.error, event=event, traceback=outcome.traceback)
    raise TypeError(f"{outcome!r} is not an outcome of a call")
