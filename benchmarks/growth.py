"""Whether the cost of a callback stays what it is when there is more of everything. Goal P12.

Four sweeps, each point on a fresh Redis, the points of a sweep in turn: waiting callbacks, handlers, worker processes,
reports in a bundle. Each is a drain (committed forty a job, as load leaves them); bundles are posted too.
"""

import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks import backlog, bodies, command
from benchmarks.command import Run
from benchmarks.deployment import Deployment, MeasurementFailed
from benchmarks.measurements import Comparison, Measurements
from benchmarks.one_connection import read_answer

BACKLOG: Final = "waiting callbacks"
HANDLERS: Final = "handlers"
PROCESSES: Final = "worker processes"
BUNDLES: Final = "reports in a bundle"
COST: Final = "µs a callback"
COST_OF_DELIVERY: Final = "µs a callback and handler"
COST_OF_REPORT: Final = "µs a report"
COST_OF_POSTING: Final = "posting, µs a report"
_PER_JOB: Final = 40


def measure(run: Run) -> None:
    """Make the table."""
    scale = run.scale
    sweeps: dict[str, tuple[tuple[int, ...], Callable[[int], Measurements], str]] = {
        BACKLOG: (scale.backlogs, _backlog, COST),
        HANDLERS: (scale.counts, partial(_handlers, scale.growth_callbacks), COST_OF_DELIVERY),
        PROCESSES: (scale.counts, partial(_processes, scale.growth_callbacks), COST),
        BUNDLES: (scale.bundles, partial(_bundles, scale.growth_reports), COST_OF_REPORT),
    }
    for name, (points, point, cost) in sweeps.items():
        if name == PROCESSES and scale.name != "full":  # their starts take longer than all the rest
            continue
        run.compare(
            name, {f"{number:,}": partial(point, number) for number in points}, repetitions=scale.long_repetitions
        )
        for line in flatness(run.comparisons[-1], cost):
            print(f"  {line}")
    run.add_remark(
        "Posting, one bundle after the other, is a line of its own: a bundle's reports share its request and its fsync."
    )
    run.add_remark(
        "With more handlers there is more to do for each callback: its cost is given for each of its deliveries."
    )
    run.add_remark(
        "More worker processes than cores share them; with two cores, two of them are as many as can work at once."
    )


def flatness(comparison: Comparison, cost: str) -> list[str]:
    """Return a line for each point of a sweep: its median cost and its distance from the median of the sweep."""
    medians = {series.name: series.median(cost) for series in comparison.series}
    middle = sorted(medians.values())[len(medians) // 2]
    return [f"{name:>8}: {value:,.1f} {cost} ({value / middle - 1:+.0%})" for name, value in medians.items()]


def _drained(callbacks: int, seconds: float) -> Measurements:
    return {COST: seconds / callbacks * 1e6, "callbacks/s": callbacks / seconds, "seconds": seconds}


def _backlog(callbacks: int) -> Measurements:
    with Deployment() as deployment:
        backlog.fill(deployment.redis, callbacks, per_job=_PER_JOB)
        return _drained(callbacks, backlog.drain(deployment))


def _handlers(callbacks: int, handlers: int) -> Measurements:
    with Deployment() as deployment:
        backlog.fill(deployment.redis, callbacks, per_job=_PER_JOB)
        seconds = backlog.drain(deployment, handlers=handlers)
    return _drained(callbacks, seconds) | {COST_OF_DELIVERY: seconds / callbacks / handlers * 1e6}


def _processes(callbacks: int, processes: int) -> Measurements:
    with Deployment() as deployment:
        backlog.fill(deployment.redis, callbacks, per_job=_PER_JOB)
        return _drained(callbacks, backlog.drain(deployment, expanders=processes, deliverers=processes))


def _bundles(all_reports: int, reports: int) -> Measurements:
    callbacks = max(1, all_reports // reports)
    with Deployment() as deployment:
        backlog.fill(deployment.redis, callbacks, per_job=max(1, _PER_JOB * bodies.REPORTS // reports), reports=reports)
        seconds = backlog.drain(deployment)
    return {COST_OF_REPORT: seconds / (callbacks * reports) * 1e6, COST_OF_POSTING: _posted(all_reports // 10, reports)}


def _posted(all_reports: int, reports: int) -> float:
    """Return the time of a report in µs, for bundles posted one after the other."""
    callbacks = max(1, all_reports // reports)
    with Deployment() as deployment:
        url = deployment.web()
        requests = [url.request(bodies.body(number, reports=reports)) for number in range(callbacks)]
        with socket.create_connection(("127.0.0.1", url.port)) as connection:
            started = time.monotonic()
            for request in requests:
                connection.sendall(request)
                head = read_answer(connection)
                if not head.startswith(b"HTTP/1.1 200 "):
                    raise MeasurementFailed(f"answered {head[:60]!r}")
            return (time.monotonic() - started) / (callbacks * reports) * 1e6


if __name__ == "__main__":
    command.main("growth", measure, "Whether a callback's cost stays flat when there is more of everything: goal P12.")
