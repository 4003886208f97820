"""What a load needs, reckoned from the results: processes, memory of Redis, disk. The runbook's table.

Processes are reckoned to be busy half of the time at most, so that a rise finds room and a backlog is caught up with.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Final

from benchmarks import acknowledge, bodies, drain, memory
from benchmarks.measurements import OURS, Results

_RATES: Final = (10, 100, 1_000, 5_000)
_BUSY_SHARE: Final = 0.5
_HOUR_SECONDS: Final = 3_600
_DAY_HOURS: Final = 24
# A mark lives for one to one and a half times CALLBACKS_DEDUPE_SECONDS.
_LIFETIMES: Final = 1.5
_GIB: Final = 2**30
_MIB: Final = 2**20


def lines(results: Mapping[str, Results]) -> Iterator[str]:
    """Yield the table, and below it what it was computed from. Raise ValueError if a result is missing."""
    stored = _median(results, "acknowledge", acknowledge.AT_64, "requests/s")
    delivered = _median(results, "drain", drain.UNDER_LOAD, drain.RATE)
    mark, waiting, written, spooled = (
        _median(results, "memory", memory.TABLE, metric)
        for metric in (memory.REMEMBERED, memory.AT_HANDLER, memory.IN_FILE, memory.IN_SPOOL)
    )
    yield (
        "| callbacks/s | `web`, `expand`, `deliver` for each handler | Redis: marks of an hour, of a day, at most "
        "| waiting for a handler, an hour | append-only file, an hour | spool, an hour |"
    )
    yield "|---|---|---|---|---|---|"
    for rate in _RATES:
        events = rate * bodies.REPORTS * _HOUR_SECONDS
        web, workers = (max(1, math.ceil(rate / _BUSY_SHARE / max_rate)) for max_rate in (stored, delivered))
        yield (
            f"| {rate:,} | {web}, {workers}, {workers} "
            f"| {_size(events * mark * _LIFETIMES)}, {_size(events * mark * _LIFETIMES * _DAY_HOURS)} "
            f"| {_size(events * waiting)} | {_size(rate * _HOUR_SECONDS * written)} "
            f"| {_size(rate * _HOUR_SECONDS * spooled)} |"
        )
    yield ""
    yield (
        f"For callbacks of {bodies.REPORTS} reports, {len(bodies.body(0))} bytes. Measured: {stored:,.0f} callbacks/s "
        f"acknowledged by one web process; {delivered:,.0f}/s delivered by one `expand` and one `deliver` process to a "
        f"handler that does nothing; {mark:.0f} bytes of memory for an event that is remembered and {waiting:.0f} for "
        f"one that waits for a handler; for a callback {written:,.0f} bytes in the append-only file until it is "
        f"delivered, {spooled:,.0f} in the spool."
    )


def _median(results: Mapping[str, Results], table: str, comparison: str, metric: str) -> float:
    found = results[table].comparison(comparison) if table in results else None
    ours = found.of(OURS) if found else None
    if ours is None or metric not in ours.samples[0]:
        raise ValueError(f"there is no result for {metric!r}: run python -m benchmarks.{table} --save")
    return ours.median(metric)


def _size(size_bytes: float) -> str:
    return f"{size_bytes / _GIB:,.1f} GiB" if size_bytes >= _GIB else f"{size_bytes / _MIB:,.0f} MiB"
