"""A chart of the last hour for a template to draw: an area, grid lines, and a summary in words.

The drawing is stretched to the available width, so the axis labels are HTML next to it and stay readable.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from callbacks.ops.status.quantities import format_rate
from shared.counted import counted
from shared.recent_rate import BUCKET_SECONDS, Bucket

HEIGHT: Final = 100
# An axis ends at one of these times a power of ten.
_STEPS: Final = (1, 2, 4, 5, 10)


class Chart(Struct, frozen=True):
    """The SVG paths of the area and its edge, `width` by HEIGHT; the axis labels from the top; a summary.

    `refused` is the path of the refused callbacks, "" if there were none.
    """

    width: int
    area: str
    edge: str
    refused: str
    labels: tuple[str, ...]
    summary: str


def draw_recent_rate(buckets: Sequence[Bucket]) -> Chart:
    """Return a chart of callbacks accepted and refused per second, one step per bucket."""
    rates = [bucket.callbacks_per_second for bucket in buckets]
    refused = [bucket.refused_per_second for bucket in buckets]
    top = _axis_top(max(*rates, *refused))
    edge = "".join(_steps(rates, top))
    return Chart(
        width=len(rates),
        area=f"{edge}V{HEIGHT}H0Z",
        edge=edge,
        refused="".join(_steps(refused, top)) if any(refused) else "",
        labels=(format_rate(top), format_rate(top / 2), "0"),
        summary=_summarize(buckets, rates),
    )


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
    return _summarize_accepted(buckets, rates) + (f" {refused:,} were refused (the red line)." if refused else "")


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
