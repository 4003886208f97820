"""Charts of the last hour for a template to draw: areas, lines, the values of each minute, and summaries in words.

The drawing is stretched to the available width, so the axis labels are HTML next to it and stay readable.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from callbacks.ops.status.quantities import format_rate
from shared.counted import counted
from shared.recent_rate import BUCKET_SECONDS, Bucket

HEIGHT: Final = 100
# An axis ends at one of these times a power of ten.
_STEPS: Final = (1, 2, 4, 5, 10)
# Of the height: a few failures among many callbacks are still a line.
_MIN_VISIBLE: Final = 0.02
_MINUTE_BUCKETS: Final = 60 // BUCKET_SECONDS


class Minute(Struct, frozen=True):
    """A part of the chart that says its values when the pointer is over it."""

    x: int
    width: int
    title: str


class BacklogChart(Struct, frozen=True):
    """The path of the events that waited, with gaps where that is unknown, its axis labels, and a summary."""

    edge: str
    labels: tuple[str, ...]
    summary: str


class Chart(Struct, frozen=True):
    """The SVG paths of the area and its edge, `width` by HEIGHT; the axis labels from the top; a summary.

    `refused` and `dead` are the paths of refused callbacks and of dead letters, "" if there were none. `backlog` is
    None if nothing is known of it.
    """

    width: int
    area: str
    edge: str
    refused: str
    dead: str
    labels: tuple[str, ...]
    summary: str
    minutes: tuple[Minute, ...]
    backlog: BacklogChart | None


def draw_recent_rate(buckets: Sequence[Bucket], waiting: Mapping[int, int] | None = None) -> Chart:
    """Return a chart of what happened per second, one step per bucket.

    `waiting` is how many events waited, by the start of a bucket.
    """
    rates = [bucket.callbacks_per_second for bucket in buckets]
    refused = [bucket.refused_per_second for bucket in buckets]
    dead = [bucket.dead / BUCKET_SECONDS for bucket in buckets]
    top = _axis_top(max(*rates, *refused, *dead))
    edge = "".join(_steps(rates, top))
    known: list[int | None] = [(waiting or {}).get(bucket.began_seconds) for bucket in buckets]
    return Chart(
        width=len(rates),
        area=f"{edge}V{HEIGHT}H0Z",
        edge=edge,
        refused="".join(_steps(_visible(refused, top), top)) if any(refused) else "",
        dead=_line([rate or None for rate in _visible(dead, top)], top),
        labels=(format_rate(top), format_rate(top / 2), "0"),
        summary=_summarize(buckets, rates),
        minutes=tuple(_minutes(buckets, known)),
        backlog=_backlog(known),
    )


def _visible(rates: Sequence[float], top: float) -> list[float]:
    """Return the rates, those above zero high enough to be seen."""
    return [max(rate, top * _MIN_VISIBLE) if rate else 0.0 for rate in rates]


def _minutes(buckets: Sequence[Bucket], waiting: Sequence[int | None]) -> Iterator[Minute]:
    for first in range(0, len(buckets), _MINUTE_BUCKETS):
        part = buckets[first : first + _MINUTE_BUCKETS]
        words = [f"{sum(bucket.callbacks for bucket in part):,} accepted"]
        if refused := sum(bucket.refused for bucket in part):
            words.append(f"{refused:,} refused")
        if dead := sum(bucket.dead for bucket in part):
            words.append(counted(dead, "dead letter"))
        if known := [number for number in waiting[first : first + _MINUTE_BUCKETS] if number is not None]:
            words.append(f"{counted(known[-1], 'event')} waiting")
        began = datetime.fromtimestamp(part[0].began_seconds, UTC)
        seconds = f"{len(part) * BUCKET_SECONDS} s from {began:%H:%M:%S} UTC"
        yield Minute(first, len(part), f"{seconds}: {', '.join(words)}")


def _backlog(waiting: Sequence[int | None]) -> BacklogChart | None:
    known = [number for number in waiting if number is not None]
    if not known:
        return None
    top = _axis_top(max(known))
    labels = tuple(f"{number:,.0f}" if number == int(number) else "" for number in (top, top / 2, 0.0))
    summary = f"{counted(known[-1], 'event')} waiting now, at most {max(known):,} in the last hour."
    return BacklogChart(_line(waiting, top), labels, summary)


def _line(values: Sequence[float | None], top: float) -> str:
    """Return the path of the values, with gaps where there is none."""
    parts: list[str] = []
    is_drawing = False
    for index, number in enumerate(values):
        if number is None:
            is_drawing = False
            continue
        height = f"{HEIGHT - max(number, 0) / top * HEIGHT:.1f}".removesuffix(".0")
        parts.append(f"V{height}H{index + 1}" if is_drawing else f"M{index} {height}H{index + 1}")
        is_drawing = True
    return "".join(parts)


def _steps(rates: Sequence[float], top: float) -> list[str]:
    """Return the path of the edge; equal steps are drawn as one."""
    parts: list[str] = []
    before = None
    for index, value in enumerate(rates):
        height = f"{HEIGHT - value / top * HEIGHT:.1f}".removesuffix(".0")
        if height != before:
            parts.append(f"M0 {height}" if before is None else f"H{index}V{height}")
            before = height
    return [*parts, f"H{len(rates)}"]


def _axis_top(highest: float) -> float:
    if highest <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in _STEPS if step * power >= highest)


def _summarize(buckets: Sequence[Bucket], rates: Sequence[float]) -> str:
    refused = sum(bucket.refused for bucket in buckets)
    dead = sum(bucket.dead for bucket in buckets)
    said = _summarize_accepted(buckets, rates) + (
        f" {counted(refused, 'was', 'were')} refused (the red line)." if refused else ""
    )
    return said + (f" {counted(dead, 'dead letter')} (the dashed line)." if dead else "")


def _summarize_accepted(buckets: Sequence[Bucket], rates: Sequence[float]) -> str:
    highest = max(rates)
    if not highest:
        until = datetime.fromtimestamp(buckets[-1].began_seconds + BUCKET_SECONDS, UTC)
        return f"No callback was accepted in the hour before {until:%H:%M:%S} UTC."
    when = datetime.fromtimestamp(buckets[rates.index(highest)].began_seconds, UTC)
    total = sum(bucket.callbacks for bucket in buckets)
    return (
        f"{counted(total, 'callback')} in the last hour, {format_rate(sum(rates) / len(rates))} per second on average; "
        f"at most {format_rate(highest)} per second, in the {BUCKET_SECONDS} seconds from {when:%H:%M:%S} UTC."
    )
