"""What a load needs, reckoned from the results: processes, memory of Redis, disk. The runbook's table.

Processes are reckoned to be busy half of the time at most, so that a rise finds room and a backlog is caught up with.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Final

from benchmarks import acknowledge, bodies, drain, memory
from benchmarks.measurements import Results, median

_RATES: Final = (10, 100, 1_000, 5_000)
BUSY_SHARE: Final = 0.5
HOUR_SECONDS: Final = 3_600
DAY_HOURS: Final = 24
# A mark lives for one to one and a half times CALLBACKS_DEDUPE_SECONDS.
LIFETIMES: Final = 1.5
GIB: Final = 2**30
_MIB: Final = 2**20


def lines(results: Mapping[str, Results]) -> Iterator[str]:
    """Yield the table, and below it what it was computed from. Raise ValueError if a result is missing."""
    stored = median(results, "acknowledge", acknowledge.AT_64, acknowledge.RATE)
    delivered = median(results, "drain", drain.UNDER_LOAD, drain.RATE)
    mark, waiting, written, spooled = (
        median(results, "memory", memory.TABLE, metric)
        for metric in (memory.REMEMBERED, memory.AT_HANDLER, memory.IN_FILE, memory.IN_SPOOL)
    )
    yield (
        "| callbacks/s | `web`, `expand`, `deliver` for each handler | Redis: marks of an hour, of a day, at most "
        "| waiting for a handler, an hour | append-only file, an hour | spool, an hour |"
    )
    yield "|---|---|---|---|---|---|"
    for rate in _RATES:
        events = rate * bodies.REPORTS * HOUR_SECONDS
        web, workers = (max(1, math.ceil(rate / BUSY_SHARE / max_rate)) for max_rate in (stored, delivered))
        yield (
            f"| {rate:,} | {web}, {workers}, {workers} "
            f"| {_size(events * mark * LIFETIMES)}, {_size(events * mark * LIFETIMES * DAY_HOURS)} "
            f"| {_size(events * waiting)} | {_size(rate * HOUR_SECONDS * written)} "
            f"| {_size(rate * HOUR_SECONDS * spooled)} |"
        )
    yield ""
    yield (
        f"For callbacks of {bodies.REPORTS} reports, {len(bodies.body(0))} bytes. Measured: {stored:,.0f} callbacks/s "
        f"acknowledged by one web process; {delivered:,.0f}/s delivered by one `expand` and one `deliver` process to a "
        f"handler that does nothing; {mark:.0f} bytes of memory for an event that is remembered and {waiting:.0f} for "
        f"one that waits for a handler; for a callback {written:,.0f} bytes in the append-only file until it is "
        f"delivered, {spooled:,.0f} in the spool."
    )


def _size(size_bytes: float) -> str:
    return f"{size_bytes / GIB:,.1f} GiB" if size_bytes >= GIB else f"{size_bytes / _MIB:,.0f} MiB"
