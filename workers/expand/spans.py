"""The spans of expansion: one for each callback whose trace is recorded, from its reading to its fan-out.

Its parent is the span of the POST, and it is the parent of its events' deliveries. It says how many of its events
were new; so that the fan-out can count them, they are a group of their own there. The callbacks of one round are
linked with the first of them.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from shared import events, queues, tracing
from shared.batches import Accepted, TracedAccepted, counted_kind
from workers.expand.fan_out import FanOutGroup, RecordResult
from workers.runtime.settlement import NewFailure

if TYPE_CHECKING:
    from shared.tracer import Tracer

# Follows the mask, whose first characters alone stand for handlers.
_MARK: Final = "#"


class _OpenSpan(Struct):
    """The span of a callback in expansion, the outcomes of its records so far, and when they were fanned out."""

    span: Any
    new: int = 0
    duplicate: int = 0
    quarantined: int = 0
    ended_ns: int | None = None


class ExpandSpans:
    """Records the callbacks that one process expands."""

    def __init__(self, tracer: "Tracer") -> None:
        self._tracer = tracer
        self._open: list[_OpenSpan] = []
        # By the ids under which records of theirs are quarantined.
        self._unreadable: dict[str, _OpenSpan] = {}

    def begin(self) -> None:
        """Begin a round."""
        self._open = []
        self._unreadable = {}

    def wrap(self, read: Callable[[Accepted], list[RecordResult]]) -> Callable[[Accepted], list[RecordResult]]:
        """Return `read` so that it starts a span for each callback that is recorded."""

        def recorded(accepted: Accepted) -> list[RecordResult]:
            if not isinstance(accepted, TracedAccepted) or not accepted.trace:
                return read(accepted)
            began_ns = time.time_ns()
            return self._begin(accepted, read(accepted), began_ns)

        return recorded

    def record_fan_out(self, groups: Iterable[FanOutGroup], unreadable: Iterable[NewFailure]) -> None:
        """Record the result of one fan-out: how many events were new, and which records were quarantined."""
        now_ns = time.time_ns()
        for group in groups:
            number = group.mask.partition(_MARK)[2]
            if number:
                opened = self._open[int(number)]
                opened.new += group.new
                opened.duplicate += group.total - group.new
                opened.ended_ns = now_ns
        for failure in unreadable:
            if failure.failure_id in self._unreadable:
                opened = self._unreadable[failure.failure_id]
                opened.quarantined += failure.records
                opened.ended_ns = now_ns

    def end(self) -> None:
        """End the round. Callbacks that are not fanned out by now are left to the job's next run."""
        for opened in self._open:
            if opened.ended_ns is None:
                self._tracer.mark_failed(opened.span, "interrupted")
            else:
                opened.span.set_attributes(
                    {
                        "callbacks.new": opened.new,
                        "callbacks.duplicates": opened.duplicate,
                        "callbacks.quarantined": opened.quarantined,
                    }
                )
            opened.span.end(opened.ended_ns)
        self.begin()

    def _begin(self, accepted: TracedAccepted, items: Sequence[RecordResult], began_ns: int) -> list[RecordResult]:
        span = self._tracer.start_span(
            "expand",
            "consumer",
            parent=accepted.trace,
            start_ns=began_ns,
            attributes=tracing.messaging_attributes(queues.EXPAND, "expand")
            | {
                "callbacks.source": accepted.source,
                "callbacks.kind": counted_kind(accepted.kind),
                "callbacks.records": accepted.records,
            },
        )
        if self._open:
            self._tracer.link(span, self._open[0].span)
        opened, number = _OpenSpan(span), len(self._open)
        self._open.append(opened)
        trace = self._tracer.traceparent(span)
        marked: list[RecordResult] = []
        for item in items:
            if isinstance(item, NewFailure):
                self._unreadable[item.failure_id] = opened
                marked.append(item)
                continue
            traced = [events.with_trace(event, trace) for event in item.events]
            marked.append(msgspec.structs.replace(item, mask=f"{item.mask}{_MARK}{number}", events=traced))
        return marked
