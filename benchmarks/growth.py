"""Whether the cost of a callback stays what it is when there is more of everything. Goal P12.

Four sweeps, each point on a fresh Redis, the points of a sweep in turn: waiting callbacks, handlers, worker processes,
reports in a bundle. Each is a drain (committed forty a job, as load leaves them) by workers that have worked before.
The cost is the CPU time of all workers and Redis. The seconds by the clock are kept too; they are no cost: a worker
that waits for the next round, or for the disk, takes nothing from the others.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from benchmarks import backlog, bodies, command, processor_time
from benchmarks.command import Run
from benchmarks.deployment import Deployment
from benchmarks.measurements import Measurements

BACKLOG: Final = "waiting callbacks"
HANDLERS: Final = "handlers"
PROCESSES: Final = "worker processes"
BUNDLES: Final = "reports in a bundle"
COST: Final = "CPU, µs a callback"
COST_OF_DELIVERY: Final = "CPU, µs a callback and handler"
COST_OF_REPORT: Final = "CPU, µs a report"
_PER_JOB: Final = 40
# What a worker's first run takes, scripts loaded and code touched for the first time, is 15 ms: of 1,000 callbacks a
# sixth.
_WARM_UP: Final = 400


def measure(run: Run) -> None:
    """Make the table."""
    scale = run.scale
    sweeps: dict[str, tuple[tuple[int, ...], Callable[[int], Measurements]]] = {
        BACKLOG: (scale.backlogs, _drained),
        HANDLERS: (scale.counts, lambda number: _drained(scale.callbacks, handlers=number)),
        PROCESSES: (scale.counts, lambda number: _drained(scale.callbacks, expanders=number, deliverers=number)),
        BUNDLES: (scale.bundles, lambda reports: _drained(scale.callbacks * bodies.REPORTS // reports, reports)),
    }
    for name, (points, measure_point) in sweeps.items():
        if name == PROCESSES and scale.name != "full":  # their starts take longer than all the rest
            continue
        run.compare(name, {f"{number:,}": partial(measure_point, number) for number in points})


def _drained(callbacks: int, reports: int = bodies.REPORTS, *, handlers: int = 1, **processes: Any) -> Measurements:
    """Commit callbacks, each with this number of reports, and drain them with this number of handlers."""
    with Deployment() as deployment:
        per_job = max(1, _PER_JOB * bodies.REPORTS // reports)
        backlog.fill(deployment.redis, callbacks, per_job=per_job, reports=reports)
        cpu_us: list[float] = []

        def count(*_: object) -> None:
            cpu_us.append(processor_time.total_us(deployment))

        seconds = backlog.drain(
            deployment, handlers=handlers, warm_up=_WARM_UP, on_ready=count, on_delivered=count, **processes
        )
    us = (cpu_us[1] - cpu_us[0]) / callbacks
    return {
        COST: us,
        COST_OF_DELIVERY: us / handlers,
        COST_OF_REPORT: us / reports,
        "by the clock, µs a callback": seconds / callbacks * 1e6,
        "seconds": seconds,
    }


if __name__ == "__main__":
    command.main("growth", measure, "Whether a callback's cost stays flat when there is more of everything: goal P12.")
