"""The spans of expanding: one for each callback whose trace is recorded, from its reading to the step that kept it.

Its parent is the commit, and it is the parent of its events' deliveries. It counts what the step in Redis made of its
own events, which therefore are a group of their own there. Callbacks of one run are linked with the first of them.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from shared import events, queues, tracing
from shared.batches import Accepted, TracedAccepted, counted_kind
from workers.runtime.settlement import FanOutGroup, Item, NewFailure

if TYPE_CHECKING:
    from shared.tracer import Tracer

# Behind the mask, where the script looks at no handler's place.
_MARK: Final = "#"


class _OpenSpan(Struct):
    """The span of a callback that is being expanded, what became of its records so far, and when they were kept."""

    span: Any
    new: int = 0
    duplicate: int = 0
    quarantined: int = 0
    ended_ns: int | None = None


class ExpandSpans:
    """Records what one process expands."""

    def __init__(self, tracer: "Tracer") -> None:
        self._tracer = tracer
        self._open: list[_OpenSpan] = []
        # By the ids under which records of theirs are set aside.
        self._unreadable: dict[str, _OpenSpan] = {}

    def begin(self) -> None:
        """Begin a run."""
        self._open = []
        self._unreadable = {}

    def wrap(self, read: Callable[[Accepted], list[Item]]) -> Callable[[Accepted], list[Item]]:
        """Give `read` with the beginning of a span around each callback that is recorded."""

        def recorded(kept: Accepted) -> list[Item]:
            if not isinstance(kept, TracedAccepted) or not kept.trace:
                return read(kept)
            began_ns = time.time_ns()
            return self._begin(kept, read(kept), began_ns)

        return recorded

    def record_fan_out(self, groups: Iterable[FanOutGroup], unreadable: Iterable[NewFailure]) -> None:
        """Take note of what one step in Redis made of its events, and of what it set aside."""
        now_ns = time.time_ns()
        for group in groups:
            number = group.mask.partition(_MARK)[2]
            if number:
                opened = self._open[int(number)]
                opened.new += group.new
                opened.duplicate += group.offered - group.new
                opened.ended_ns = now_ns
        for entry in unreadable:
            if entry.failure_id in self._unreadable:
                opened = self._unreadable[entry.failure_id]
                opened.quarantined += entry.records
                opened.ended_ns = now_ns

    def end(self) -> None:
        """End the run. What is not in Redis by now is somebody else's to expand."""
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

    def _begin(self, kept: TracedAccepted, items: Sequence[Item], began_ns: int) -> list[Item]:
        span = self._tracer.start_span(
            "expand",
            "consumer",
            parent=kept.trace,
            start_ns=began_ns,
            attributes=tracing.messaging_attributes(queues.EXPAND, "expand", kind="process")
            | {
                "callbacks.source": kept.source,
                "callbacks.kind": counted_kind(kept.kind),
                "callbacks.records": kept.records,
            },
        )
        if self._open:
            self._tracer.link(span, self._open[0].span)
        opened, number = _OpenSpan(span), len(self._open)
        self._open.append(opened)
        trace = self._tracer.traceparent(span)
        marked: list[Item] = []
        for item in items:
            if isinstance(item, NewFailure):
                self._unreadable[item.failure_id] = opened
                marked.append(item)
                continue
            marked.append(
                msgspec.structs.replace(
                    item, mask=f"{item.mask}{_MARK}{number}", event=events.with_trace(item.event, trace)
                )
            )
        return marked
