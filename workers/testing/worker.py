"""A worker of one handler without a queue: it calls the handler as a worker process does, and says what became of it.

The calls are the service's own (`workers.deliver.call`). What needs a queue is left out: no failed event is tried
again, and a pause ends with the events that were handed over together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from shared.events import Event
from workers.declaration import ATTRIBUTE, Handler
from workers.deliver.call.caller import Caller
from workers.runtime.outcome import Done, Failed, Outcome, Paused, Rejected, RetryRequested, Split

Verdict: TypeAlias = Literal["done", "retry", "rejected", "failed", "paused", "filtered"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one event.

    `outcome`: "done"; "retry", "rejected", "paused": the handler said so; "failed": it raised something else, or its
    time was over; "filtered": its filters leave the event out, so it was not called. `reason` is the handler's, or the
    error as "Type: message". `after_seconds`: when the handler wants to be called again, None where it did not say.
    """

    outcome: Verdict
    reason: str = ""
    after_seconds: float | None = None
    event: Event = field(kw_only=True, repr=False)
    traceback: str = field(default="", repr=False)


class Worker:
    """A worker of `handler`, a function decorated with @handler; a context manager, for a process's main thread.

    As long as it is open the handler's `lifespan` is, and an async handler's event loop. Use it in a plain `def`: it
    runs a loop of its own. Raises TypeError for a function that is no handler.
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
        """Hand over one event; a batch handler gets a list with this one."""
        (result,) = self.deliver_all([event])
        return result

    def deliver_all(self, events: Sequence[Event]) -> list[Result]:
        """Hand over events that wait together, and give a result for each, in their order.

        A batch handler gets one list of those that it wants; if that fails, lists of one.
        """
        wanted = [place for place, event in enumerate(events) if self._handler.wants(event)]
        outcomes = self._outcomes([events[place] for place in wanted])
        results = [Result("filtered", event=event) for event in events]
        for place, outcome in zip(wanted, outcomes, strict=True):
            results[place] = _result(events[place], outcome)
        return results

    def _outcomes(self, events: Sequence[Event]) -> list[Outcome]:
        if self._caller is None:
            raise RuntimeError("the worker is not open: with Worker(handler) as worker: …")
        found: dict[int, Outcome] = {}
        split: list[int] = []
        for place, outcome in self._caller.call(events, stop=lambda: _pause(found) is not None):
            if isinstance(outcome, Split):
                split.append(place)
            else:
                found[place] = outcome
        singly = self._caller.call(
            [events[place] for place in split], singly=True, stop=lambda: _pause(found) is not None
        )
        for index, outcome in singly:
            found[split[index]] = outcome
        # What was not called any more waits with the event that paused.
        paused = _pause(found)
        return [found[place] if paused is None else found.get(place, paused) for place in range(len(events))]


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
    raise TypeError(f"{outcome!r} is no end of a call")
