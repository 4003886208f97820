"""A chart of the last hour as numbers that a template draws: an area, lines across it, and what it says in words.

The drawing is stretched to the width there is, so the words of its axes stand beside it in HTML and stay readable.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from callbacks.ops.status.quantities import format_rate
from shared.recent_rate import BUCKET_SECONDS, Bucket

HEIGHT: Final = 100
# What an axis may end at: these, times a power of ten.
_STEPS: Final = (1, 2, 4, 5, 10)


class Chart(Struct, frozen=True):
    """The paths of the area and of its edge, `width` by HEIGHT; the words of the axis, from the top; a summary."""

    width: int
    area: str
    edge: str
    labels: tuple[str, ...]
    summary: str


def draw_recent_rate(buckets: Sequence[Bucket]) -> Chart:
    """Draw callbacks per second, one step for each bucket."""
    rates = [bucket.callbacks_per_second for bucket in buckets]
    top = _axis_top(max(rates))
    edge = "".join(_steps(rates, top))
    return Chart(
        width=len(rates),
        area=f"{edge}V{HEIGHT}H0Z",
        edge=edge,
        labels=(format_rate(top), format_rate(top / 2), "0"),
        summary=_summarize(buckets, rates),
    )


def _steps(rates: Sequence[float], top: float) -> list[str]:
    """Give the edge; steps of the same height are drawn as one."""
    parts: list[str] = []
    before = None
    for place, value in enumerate(rates):
        height = f"{HEIGHT - value / top * HEIGHT:.1f}".removesuffix(".0")
        if height != before:
            parts.append(f"M0 {height}" if before is None else f"H{place}V{height}")
            before = height
    return [*parts, f"H{len(rates)}"]


def _axis_top(highest: float) -> float:
    if highest <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in _STEPS if step * power >= highest)


def _summarize(buckets: Sequence[Bucket], rates: Sequence[float]) -> str:
    highest = max(rates)
    if not highest:
        until = datetime.fromtimestamp(buckets[-1].began_seconds + BUCKET_SECONDS, UTC)
        return f"No callback came in the hour before {until:%H:%M:%S} UTC."
    when = datetime.fromtimestamp(buckets[rates.index(highest)].began_seconds, UTC)
    total = sum(bucket.callbacks for bucket in buckets)
    return (
        f"{total:,} callbacks in the last hour, {format_rate(sum(rates) / len(rates))} per second on average; "
        f"the most were {format_rate(highest)} per second, in the {BUCKET_SECONDS} seconds from {when:%H:%M:%S} UTC."
    )
