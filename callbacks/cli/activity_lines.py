"""The lines of `callbacks dev`: one for each event, with what became of it at each handler.

An event's line waits at most WAIT_SECONDS for its handlers; what becomes of it later, such as after a retry, has a line
of its own. In a campaign, after MAX_LINES at once, the rest is counted on one line a second, until no more than
STEADY_LINES a second are due.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

import click
from msgspec import Struct, field

from callbacks.cli import activity_text
from callbacks.cli.activity_text import clock
from callbacks.cli.terminal_text import short
from shared.counted import counted
from workers.activity import Activity, CallResult, EventLabel, NewEvent, PauseChanged, RepeatedEvent, UnreadableRecords

WAIT_SECONDS: Final = 1.0
# The campaign that `callbacks dev` suggests stays below: 20 messages with two or three reports each.
MAX_LINES: Final = 200
# As many as a person reads. That many more lines may be printed at once after each second.
STEADY_LINES: Final = 10
_WAIT: Final = timedelta(seconds=WAIT_SECONDS)
_WINDOW: Final = timedelta(seconds=1)
# Of 200 bytes each. The oldest are forgotten: of a repeat of one it is then not said when that came.
_MAX_REMEMBERED: Final = 100_000
_ARROW: Final = "→"


class _OpenEvent(Struct):
    """An event that has no line yet. `wanted` is None until it is known which handlers want it."""

    label: EventLabel
    print_at: datetime
    wanted: tuple[str, ...] | None = None
    results: dict[str, CallResult] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        return [name for name in self.wanted or () if name not in self.results]


class _Summary(Struct):
    """What was not printed line by line: events by kind, repeats, and for each handler its outcomes and last error."""

    events: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


class ActivityLines:
    """Makes lines of what happens. `hidden`: handlers of which only failures are shown.

    `masked`: whether numbers of phones are. `is_paused` is asked of a handler that has not answered in time.
    """

    def __init__(self, *, hidden: Collection[str], masked: bool, is_paused: Callable[[str], bool]) -> None:
        self._hidden = frozenset(hidden)
        self._masked = masked
        self._is_paused = is_paused
        self._open: OrderedDict[str, _OpenEvent] = OrderedDict()
        # For each event whose line is printed, how many of its handlers had not answered then.
        self._late: OrderedDict[str, int] = OrderedDict()
        self._received_at: OrderedDict[str, datetime] = OrderedDict()
        self._lines: list[str] = []
        self._window_ends: datetime | None = None
        self._in_window = 0
        self._lines_left = MAX_LINES
        self._is_flooded = False
        self._summary = _Summary()

    def add(self, item: Activity, now: datetime) -> None:
        """Take note of what happened; `now` is in UTC."""
        match item:
            case NewEvent():
                self._add_new(item, now)
            case RepeatedEvent():
                first_at = self._received_at.get(item.event.id)
                words = activity_text.describe_repeat(item, first_at, now=now)
                text = f"{self._describe(item.event, is_new=False)}, {words}"
                self._emit(item.event.received_at, text, now, counted_as="repeat")
            case CallResult():
                if item.outcome != "delivered" or item.handler not in self._hidden:
                    self._add_result(item, now)
            case PauseChanged():
                self._emit(now, activity_text.describe_pause(item), now)
            case UnreadableRecords():
                self._emit(now, activity_text.describe_unreadable(item), now)

    def pop(self, now: datetime) -> list[str]:
        """Return the lines that are due, each once."""
        while self._open and (opened := next(iter(self._open.values()))).print_at <= now:
            self._print(opened, now)
        if self._window_ends is None or now >= self._window_ends:
            if self._summary.events or self._summary.outcomes:
                self._lines.append(f"{clock(now, now=now)} … {_format_summary(self._summary)}")
            self._is_flooded = self._is_flooded and self._in_window > STEADY_LINES
            if not self._is_flooded:
                self._lines_left = min(MAX_LINES, self._lines_left + STEADY_LINES)
            self._in_window, self._window_ends, self._summary = 0, now + _WINDOW, _Summary()
        lines, self._lines = self._lines, []
        return lines

    def _add_new(self, new: NewEvent, now: datetime) -> None:
        label = new.event
        self._received_at[label.id] = label.received_at
        if len(self._received_at) > _MAX_REMEMBERED:
            self._received_at.popitem(last=False)
        opened = self._open.setdefault(label.id, _OpenEvent(label, now + _WAIT))
        opened.wanted = tuple(name for name in new.handlers if name not in self._hidden)
        if self._is_flooded or not opened.missing:
            self._print(opened, now)

    def _add_result(self, result: CallResult, now: datetime) -> None:
        event_id = result.event.id
        opened = self._open.get(event_id)
        if opened is None and event_id not in self._late and result.attempt == 1 and not self._is_flooded:
            # What was published of the event itself may come a moment later.
            opened = self._open[event_id] = _OpenEvent(result.event, now + _WAIT)
        if opened is not None and result.handler in opened.results:  # the next attempt is there already
            self._print(opened, now)
            opened = None
        if opened is None:
            self._emit_later(result, now)
            return
        opened.results[result.handler] = result
        if opened.wanted is not None and not opened.missing:
            self._print(opened, now)

    def _print(self, opened: _OpenEvent, now: datetime) -> None:
        """Print the line of an event; a handler that has not answered has a line of its own later."""
        label, results = opened.label, list(opened.results.values())
        del self._open[label.id]
        if opened.wanted is None:  # enqueued before this `callbacks dev` started, or replayed
            for result in results:
                self._emit_later(result, now)
            return
        # In the order of the handlers, not of their answers; a hidden one that failed comes last.
        order = {name: index for index, name in enumerate(opened.wanted)}
        results.sort(key=lambda result: order.get(result.handler, len(order)))
        words = [activity_text.describe_result(result) for result in results]
        if not self._is_flooded:
            words += [f"{name} {'paused' if self._is_paused(name) else '…'}" for name in opened.missing]
        text = f"{self._describe(label, is_new=True)} {_ARROW} {', '.join(words) or 'no handler wants it'}"
        self._emit(label.received_at, text, now, counted_as=label.kind, results=results)
        if opened.missing:
            self._late[label.id] = len(opened.missing)
        if len(self._late) > _MAX_REMEMBERED:
            self._late.popitem(last=False)

    def _emit_later(self, result: CallResult, now: datetime) -> None:
        if result.attempt == 1:
            left = self._late.pop(result.event.id, 1) - 1
            if left > 0:
                self._late[result.event.id] = left
        text = f"{self._describe(result.event, is_new=False)} {_ARROW} {activity_text.describe_result(result)}"
        self._emit(now, text, now, results=[result])

    def _describe(self, event: EventLabel, *, is_new: bool) -> str:
        return activity_text.describe_event(event, masked=self._masked, is_new=is_new)

    def _emit(
        self, moment: datetime, text: str, now: datetime, *, counted_as: str = "", results: Sequence[CallResult] = ()
    ) -> None:
        """Add a line, or count it."""
        self._in_window += 1
        if not self._is_flooded and self._lines_left:
            self._lines_left -= 1
            self._lines.append(f"{clock(moment, now=now)} {text}")
            return
        self._is_flooded = True
        if counted_as:
            self._summary.events[counted_as] += 1
        for result in results:
            self._summary.outcomes.setdefault(result.handler, Counter())[result.outcome] += 1
            if result.outcome != "delivered":
                self._summary.errors[result.handler] = result.error


def _format_summary(summary: _Summary) -> str:
    names = (("report", "reports"), ("reply", "replies"), ("repeat", "repeats"))
    events = [counted(summary.events[one], one, many) for one, many in names if summary.events[one]]
    handlers = []
    for handler, outcomes in summary.outcomes.items():
        words = [
            f"{mark} {outcomes[outcome]:,}"
            for outcome, mark in (
                ("delivered", click.style("✓", fg="green")),
                ("retried", click.style("✗", fg="red")),
                ("dead", "dead"),
            )
            if outcomes[outcome]
        ]
        error = f" ({short(summary.errors[handler])})" if summary.errors.get(handler) else ""
        handlers.append(f"{handler} {' '.join(words)}{error}")
    return f" {_ARROW} ".join(filter(None, (", ".join(events), ", ".join(handlers))))
