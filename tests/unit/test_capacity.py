"""The tables of docs/scaling.md: cells and processes follow from the measured costs, and a missing result is named."""

import pytest

from benchmarks import capacity, cells, cost, memory
from benchmarks.measurements import OURS, Comparison, Measurements, Results, Series
from tests.measured_machine import MACHINE


def results(table: str, *comparisons: tuple[str, str, Measurements]) -> Results:
    return Results(
        table=table,
        measured_at="2026-01-31T12:00:00+00:00",
        scale="full",
        machine=MACHINE,
        comparisons=[Comparison(name, [Series(series, [sample])]) for name, series, sample in comparisons],
    )


def measured(redis_us: float) -> dict[str, Results]:
    parts = {"CPU of web, µs": 100.0, "CPU of expand, µs": 50.0, "CPU of deliver, µs": 25.0, cost.REDIS_CPU: redis_us}
    handlers = Comparison(
        cost.BY_HANDLERS, [Series(str(number), [{cost.REDIS_CPU: 30.0 + number}]) for number in cost.HANDLERS]
    )
    of_costs = results("cost", (cost.UNDER_LOAD, OURS, parts | {cost.FILE: 3.0}))
    of_costs.comparisons.append(handlers)
    by_cells = parts | {cost.CPU: 2_000.0, cells.FULL_CPU: 200.0, cells.FULL_RATE: 3_000.0}
    return {
        "cost": of_costs,
        "memory": results("memory", (memory.TABLE, OURS, {memory.REMEMBERED: 60.0})),
        "cells": results("cells", (cells.TABLE, "1", by_cells), (cells.PROXIED, "HAProxy", {cells.PROXY_CPU: 20.0})),
    }


@pytest.mark.parametrize(
    ("redis_us", "row"),
    [
        # 100,000/s keep 4 cores of Redis busy, so half of what 8 can do.
        (40.0, "| 100,000 | 8 | 20, 10, 8 | 21.50 | 2.00 |"),
        (5.0, "| 100,000 | 1 | 20, 10, 5 | 18.00 | 2.00 |"),
    ],
)
def test_redis_decides_how_many_cells_and_each_has_its_processes(redis_us: float, row: str) -> None:
    lines = list(capacity.lines(measured(redis_us)))

    assert any(line.startswith(row) for line in lines), lines
    assert "2,000 µs in all at 150/s" in lines[-1]


def test_the_limits_are_what_a_core_of_each_part_can_do() -> None:
    lines = "\n".join(capacity.limit_lines(measured(40.0)))

    assert "| `web` | 100 µs | 10,000/s |" in lines
    assert (
        "| Redis, one handler | 40 µs; 1.0 µs for each handler more | 25,000/s; 23,000/s with four handlers |" in lines
    )
    assert "| HAProxy without TLS | 20 µs | 50,000/s |" in lines


def test_a_missing_result_is_named_with_the_command_that_makes_it() -> None:
    for missing in ("cost", "memory", "cells"):
        found = measured(40.0)
        del found[missing]
        with pytest.raises(ValueError, match=f"python -m benchmarks.{missing} --save"):
            list(capacity.lines(found))
    with pytest.raises(ValueError, match=r"benchmarks\.cells --save"):
        list(capacity.cell_lines({}))
