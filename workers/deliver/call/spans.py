"""The spans of a handler's calls: one for each attempt at an event whose trace is recorded, named `deliver <handler>`.

Its parent is the span of the event's expansion, whose traceparent the event carries. During the call the event's span
is the current span, so that spans of the handler's own code are its children. One call of a batch handler is a span in
the trace of each event; the first is the current span, and the others are linked with it.

Knows nothing of queues. Nothing here imports OpenTelemetry: a process without traces has no CallSpans.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from shared import events, tracing
from shared.events import Event
from workers.declaration import Handler
from workers.runtime.outcome import Done, Failed, Outcome, Paused, RetryRequested, Split

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from shared.tracer import Tracer

_INTERRUPTED: Final = "interrupted"


class _Sampled(Struct):
    """An event whose trace is recorded: its attempt, its parent's traceparent, and the span of its call."""

    event: Event
    attempt: int
    trace: str
    span: Any = None


class CallSpans:
    """Records the calls of `handler` in one process. What `wrap` returns is called instead of the handler's function.

    `queue` is the name of the queue that the events come from.
    """

    def __init__(self, tracer: "Tracer", handler: Handler, *, queue: str) -> None:
        self._tracer = tracer
        self._handler = handler
        self._queue = queue
        # By identity: the handler is called with the same objects that were passed to `add`.
        self._sampled: dict[int, _Sampled] = {}

    def add(self, delivered: Iterable[tuple[Event, int, str]]) -> None:
        """Add events to the round, each with its attempt and its traceparent ("": it is not recorded)."""
        self._sampled |= {id(event): _Sampled(event, attempt, trace) for event, attempt, trace in delivered if trace}

    def wrap(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return `function` with a span around each call whose event is recorded."""
        if not self._handler.is_async:
            return lambda argument: self._call(function, argument)
        return lambda argument: self._call_async(function, argument)

    def end_calls(
        self, called: Sequence[Event], results: Iterator[tuple[int, Outcome]]
    ) -> Iterator[tuple[int, Outcome]]:
        """Yield the results that a Caller yields for `called`, and end the spans of these calls."""
        for index, outcome in results:
            self._end_call(called[index], outcome)
            yield index, outcome

    def end_batch(self, called: Sequence[Event], outcome: Outcome) -> None:
        """End the spans of one call with all of these events."""
        for event in called:
            self._end_call(event, outcome)

    def record_uncalled(self, event: Event, outcome: Outcome) -> None:
        """Record the outcome of an event that the handler was not called with."""
        sampled = self._sampled.get(id(event))
        if sampled is not None:
            self._begin([sampled])
            self._end(sampled, outcome)

    def encode_with_trace(self, event: Event) -> bytes:
        """Return an event as `events.encode` does, with the traceparent that it came with."""
        sampled = self._sampled.get(id(event))
        encoded = events.encode(event)
        return encoded if sampled is None else events.with_trace(encoded, sampled.trace)

    def end(self) -> None:
        """End the round. Calls without an outcome were interrupted; their events are called again."""
        for sampled in self._sampled.values():
            if sampled.span is not None:
                self._finish(sampled, _INTERRUPTED)
        self._sampled = {}

    def _call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        called = self._sampled_events(argument)
        if not called:
            return function(argument)
        with self._tracer.current(self._begin(called)):
            return function(argument)

    async def _call_async(self, function: Callable[[Any], Awaitable[Any]], argument: Any) -> Any:
        called = self._sampled_events(argument)
        if not called:
            return await function(argument)
        with self._tracer.current(self._begin(called)):
            return await function(argument)

    def _sampled_events(self, argument: Any) -> list[_Sampled]:
        if not self._sampled:
            return []
        delivered: Sequence[Event] = argument if self._handler.batch else (argument,)
        return [sampled for event in delivered if (sampled := self._sampled.get(id(event))) is not None]

    def _end_call(self, event: Event, outcome: Outcome) -> None:
        # Checked each time: the first recorded event may join the round while calls are in flight.
        sampled = self._sampled.get(id(event)) if self._sampled else None
        if sampled is not None and sampled.span is not None:
            self._end(sampled, outcome)

    def _begin(self, called: Sequence[_Sampled]) -> "Span":
        for sampled in called:
            sampled.span = self._tracer.start_span(
                f"deliver {self._handler.name}",
                "consumer",
                parent=sampled.trace,
                attributes=tracing.messaging_attributes(self._queue, "deliver")
                | {
                    "messaging.message.id": sampled.event.id,
                    "callbacks.handler": self._handler.name,
                    "callbacks.source": sampled.event.source,
                    "callbacks.kind": sampled.event.kind,
                    "callbacks.attempt": sampled.attempt,
                },
            )
            if sampled is not called[0]:
                self._tracer.link(sampled.span, called[0].span)
        span: Span = called[0].span
        return span

    def _end(self, sampled: _Sampled, outcome: Outcome) -> None:
        cause = outcome.cause if isinstance(outcome, Split) else outcome
        word = self._outcome_name(sampled.attempt, outcome)
        if isinstance(cause, Failed):
            # "ValueError at orders.py:12": the type alone is what error.type asks for.
            self._tracer.mark_failed(sampled.span, cause.cause.partition(" ")[0])
        elif word == "dead":
            self._tracer.mark_failed(sampled.span, "Retry" if isinstance(cause, RetryRequested) else "Reject")
        self._finish(sampled, word)

    def _outcome_name(self, attempt: int, outcome: Outcome) -> str:
        if isinstance(outcome, Done):
            return "delivered"
        if isinstance(outcome, Paused):
            return "paused"
        if isinstance(outcome, Split):
            return "split"
        # As workers/deliver/retries.py decides.
        is_retried = isinstance(outcome, Failed | RetryRequested) and attempt < self._handler.attempts
        return "retried" if is_retried else "dead"

    def _finish(self, sampled: _Sampled, word: str) -> None:
        sampled.span.set_attribute("callbacks.outcome", word)
        sampled.span.end()
        sampled.span = None
