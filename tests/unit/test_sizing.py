"""The runbook's table of what a load needs: reckoned from results, and refused where one is missing."""

import pytest

from benchmarks import sizing
from benchmarks.measurements import OURS, Comparison, Results, Series
from tests.measured_machine import MACHINE


def results(table: str, comparison: str, **measured: float) -> Results:
    series = [Series(OURS, [measured])]
    comparisons = [Comparison(comparison, series)]
    return Results(table=table, measured_at="2026-01-01", scale="full", machine=MACHINE, comparisons=comparisons)


def all_results() -> dict[str, Results]:
    memory = {
        "remembered, bytes an event": 100.0,
        "waiting for a handler, bytes an event": 400.0,
        "in the append-only file, bytes a callback": 2_000.0,
        "in the spool, bytes a callback": 1_000.0,
    }
    return {
        "acknowledge": results("acknowledge", "64 connections", **{"requests/s": 8_000.0}),
        "drain": results("drain", "committed under load", **{"callbacks/s": 4_000.0}),
        "memory": results("memory", "memory", **memory),
    }


def test_processes_are_busy_half_of_the_time_at_most() -> None:
    rows = list(sizing.lines(all_results()))

    assert [line.split(" | ")[:2] for line in rows[2:6]] == [
        ["| 10", "1, 1, 1"],
        ["| 100", "1, 1, 1"],
        ["| 1,000", "1, 1, 1"],
        ["| 5,000", "2, 3, 3"],
    ]


def test_memory_and_disk_grow_with_events_and_time() -> None:
    thousand = next(line for line in sizing.lines(all_results()) if line.startswith("| 1,000"))

    # 3,000 events a second: 10.8 million an hour; 3.6 million callbacks.
    assert thousand.split(" | ")[2:] == ["1.5 GiB, 36.2 GiB", "4.0 GiB", "6.7 GiB", "3.4 GiB |"]


@pytest.mark.parametrize("missing", ["acknowledge", "drain", "memory"])
def test_a_missing_result_is_named_with_the_command_that_makes_it(missing: str) -> None:
    known = all_results()
    del known[missing]

    with pytest.raises(ValueError, match=rf"python -m benchmarks\.{missing} --save"):
        list(sizing.lines(known))
