"""Metrics of one process, counted in plain Python: responses and their times, batches, runs of handlers.

Counting takes two dictionary or list operations, below a microsecond, and no lock. One thread counts, another may take
a snapshot at any time: numbers only grow, so the next snapshot has what this one missed. What Redis counts in the same
step as the change itself (`keys.COUNTS`) is not counted here.
"""

from bisect import bisect_left
from typing import Final, TypeAlias

# The parts of a metric's name, such as ("responses", 200), joined only for a snapshot.
MetricName: TypeAlias = tuple[str | int, ...]

SEPARATOR: Final = "|"
# Events with a status that the specification does not have, by its name; beyond this number of names, OTHER.
UNKNOWN_STATUS: Final = "unknown_status"
MAX_UNKNOWN_STATUSES: Final = 50
OTHER: Final = "other"
# Items that retention removed, by the handler whose they were.
RETENTION_REMOVED: Final = "retention_removed"
# Callbacks, by kind and source.
ACCEPTED: Final = "accepted"
# By handler: events that will be tried again, and that became dead letters; seconds of a call, and of a delivery.
RETRIED: Final = "retried"
DEAD: Final = "dead"
CALL: Final = "call"
DELIVERY: Final = "delivery"
# Failures dropped by their retention, by list and by why: "age" or "room".
TRIMMED: Final = "trimmed"
# Bounds are stored in Redis. If a release changes them, the old ones stay there unchanged.
SECONDS_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# A handler may have a minute or more for a call.
CALL_BUCKETS: Final = (*SECONDS_BUCKETS, 60.0, 120.0)
# From the POST of a callback to its settled delivery: milliseconds usually, hours after retries.
DELIVERY_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86400.0)
SIZE_BUCKETS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
INFINITY: Final = "+Inf"
# Sums are kept as integers, so that adding them up in Redis is exact.
SUM_UNIT: Final = 1e-6


class Histogram:
    """How many observations are at or below each bound and above the one before; and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, number: int = 1) -> None:
        """Record `number` observations of `value`."""
        self._counts[bisect_left(self._bounds, value)] += number
        self._sum += value * number

    def snapshot(self) -> dict[str, int]:
        """Return the counts by "le" and bound, and the sum in SUM_UNIT."""
        bounds = [*map(str, self._bounds), INFINITY]
        found = {f"le{SEPARATOR}{bound}": count for bound, count in zip(bounds, self._counts, strict=True) if count}
        return found | {"sum": round(self._sum / SUM_UNIT)} if found else {}


class Metrics:
    """All metrics of one process."""

    def __init__(self) -> None:
        self._counts: dict[MetricName, int] = {}
        self._histograms: dict[MetricName, Histogram] = {}

    def add(self, name: MetricName, number: int = 1) -> None:
        """Add `number` to a counter."""
        self._counts[name] = self._counts.get(name, 0) + number

    def histogram(self, name: MetricName, bounds: tuple[float, ...]) -> Histogram:
        """Return the histogram of that name, for the caller to keep."""
        return self._histograms.setdefault(name, Histogram(bounds))

    def snapshot(self) -> dict[str, int]:
        """Return every number by its joined name. Names that were never counted are absent."""
        # dict.copy is one step to other threads, iterating is not.
        found = {_join(name): number for name, number in self._counts.copy().items()}
        for name, histogram in self._histograms.copy().items():
            found |= {f"{_join(name)}{SEPARATOR}{part}": number for part, number in histogram.snapshot().items()}
        return found


def _join(name: MetricName) -> str:
    return SEPARATOR.join(map(str, name))
