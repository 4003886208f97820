"""The tables of docs/scaling.md, made from the results: what limits a service, what cells cost, what a load needs.

Like `sizing`, it asks of each process half of what it can do. It adds up processor time; it does not measure a service
of that size.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Final

from benchmarks import bodies, cells, cost, memory
from benchmarks.measurements import Results, find, median
from benchmarks.sizing import BUSY_SHARE, DAY_HOURS, GIB, HOUR_SECONDS, LIFETIMES

_RATES: Final = (1_000, 10_000, 30_000, 100_000)
_MILLION: Final = 1_000_000
# Its parts, as the processes are named in the results, and what is added when one core is not enough for it.
_PARTS: Final = {
    "web": "a process more: `WEB_CONCURRENCY`, or a machine behind the proxy",
    "expand": "a process more: `--processes`, or a machine",
    "deliver": "a process more of this handler, or its `concurrency` if it waits",
}


def limit_lines(results: Mapping[str, Results]) -> Iterator[str]:
    """Yield the table of what a core of each part can do. Raise ValueError if a result is missing."""
    yield "| part | CPU for a callback | one core does at most | what is added then | from |"
    yield "|---|---|---|---|---|"
    for part, remedy in _PARTS.items():
        us = _part_us(results, part)
        yield f"| `{part}` | {us:.0f} µs | {_most(us)} | {remedy} | `cost.json` |"
    redis_us = _redis_us(results)
    more_us = cost.of_a_handler(find(results, "cost", cost.BY_HANDLERS), cost.REDIS_CPU)
    if more_us is None:
        raise ValueError("there is no result for twelve handlers: run python -m benchmarks.cost --save")
    yield (
        f"| Redis, one handler | {redis_us:.0f} µs; {more_us:.1f} µs for each handler more | {_most(redis_us)}; "
        f"{_most(redis_us + 3 * more_us)} with four handlers | a cell | `cost.json` |"
    )
    proxy_us = median(results, "cells", cells.PROXIED, cells.PROXY_CPU, series="HAProxy")
    yield (
        f"| HAProxy without TLS | {proxy_us:.0f} µs | {_most(proxy_us)} | a thread, or a second proxy | `cells.json` |"
    )


def cell_lines(results: Mapping[str, Results]) -> Iterator[str]:
    """Yield the table of what a callback costs by the number of cells. Raise ValueError if a result is missing."""
    comparison = find(results, "cells", cells.TABLE)
    found = results["cells"]
    cores = found.machine.cores
    yield (
        f"| cells | {cells.EQUAL_RATE:.0f} callbacks/s in each: CPU for a callback (least to greatest) "
        f"| `web`, `expand`, `deliver`, Redis | full load: CPU for a callback "
        f"| callbacks/s, all of it on {cores} cores |"
    )
    yield "|---|---|---|---|---|"
    for one in comparison.series:
        low, high = one.spread(cost.CPU)
        parts = [one.median(f"CPU of {part}, µs") for part in _PARTS] + [one.median(cost.REDIS_CPU)]
        yield (
            f"| {one.name} | {one.median(cost.CPU):,.0f} µs ({low:,.0f} to {high:,.0f}) "
            f"| {', '.join(f'{us:.0f}' for us in parts)} µs | {one.median(cells.FULL_CPU):.0f} µs "
            f"| {one.median(cells.FULL_RATE):,.0f} |"
        )
    yield ""
    turns = len(comparison.series[0].samples)
    yield (
        f"`benchmarks/results/cells.json`, {found.measured_at[:10]}: the medians of {turns} turns. "
        "The load generators share the cores, and so did other work: the load of the machine before was "
        f"{found.machine.load_before:.1f}."
    )


def lines(results: Mapping[str, Results]) -> Iterator[str]:
    """Yield the table of what a load needs, and what it was computed from. Raise ValueError if a result is missing."""
    costs = {part: _part_us(results, part) for part in _PARTS}
    redis_us = _redis_us(results)
    proxy_us = median(results, "cells", cells.PROXIED, cells.PROXY_CPU, series="HAProxy")
    mark_bytes = median(results, "memory", memory.TABLE, memory.REMEMBERED)
    file_bytes = median(results, "cost", cost.UNDER_LOAD, cost.FILE) * len(bodies.body(0))
    slow_us = median(results, "cells", cells.TABLE, cost.CPU, series="1")
    yield (
        "| callbacks/s | cells | `web`, `expand`, `deliver` for a handler, in all | cores at full load's cost "
        "| of the proxy | in each cell: marks of an hour, of a day | its append-only file |"
    )
    yield "|---|---|---|---|---|---|---|"
    for rate in _RATES:
        number = _processes(rate, redis_us)
        processes = ", ".join(str(max(number, _processes(rate, us))) for us in costs.values())
        busy = rate * (sum(costs.values()) + redis_us) / _MILLION
        marks = rate / number * bodies.REPORTS * HOUR_SECONDS * LIFETIMES * mark_bytes / GIB
        yield (
            f"| {rate:,} | {number} | {processes} | {busy:.2f} | {rate * proxy_us / _MILLION:.2f} "
            f"| {marks:,.1f} GiB, {marks * DAY_HOURS:,.0f} GiB | {rate / number * file_bytes / _MILLION:,.1f} MB/s |"
        )
    yield ""
    yield (
        f"For callbacks of {bodies.REPORTS} reports ({len(bodies.body(0))} bytes) and one batch handler that does "
        f"nothing; each process and each Redis gets half of what it can do at full load. From `benchmarks/results`: "
        f"{', '.join(f'{us:.0f} µs of `{part}`' for part, us in costs.items())} and {redis_us:.0f} µs of Redis for a "
        f"callback, {file_bytes:,.0f} bytes in the append-only file (`cost.json`); {mark_bytes:.0f} bytes for a mark "
        f"(`memory.json`); {proxy_us:.0f} µs of HAProxy (`cells.json`). With less load batches are smaller, and a "
        f"callback costs more CPU: {slow_us:,.0f} µs in all at {cells.EQUAL_RATE:.0f}/s (`cells.json`)."
    )


def _processes(rate: int, us: float) -> int:
    return max(1, math.ceil(rate * us / _MILLION / BUSY_SHARE))


def _most(us: float) -> str:
    """Return how many callbacks a second one core can do, to two digits: a measured cost is no more exact."""
    exact = _MILLION / us
    step = 10 ** (math.floor(math.log10(exact)) - 1)
    return f"{math.floor(exact / step) * step:,}/s"


def _part_us(results: Mapping[str, Results], part: str) -> float:
    return median(results, "cost", cost.UNDER_LOAD, f"CPU of {part}, µs")


def _redis_us(results: Mapping[str, Results]) -> float:
    return median(results, "cost", cost.UNDER_LOAD, cost.REDIS_CPU)
