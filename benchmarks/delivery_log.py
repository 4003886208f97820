"""What the delivery log costs a callback: a service with it and one without are loaded in turns, many short rounds.

One batch handler that does nothing settles the most events in a run, so that the log's share is as large as it gets.
"""

import itertools
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

from benchmarks import command
from benchmarks.command import Run, Scale
from benchmarks.cost import CPU, FILE, under_load, wait_until_settled
from benchmarks.deployment import Deployment, TargetUrl
from benchmarks.measurements import Measurements

TABLE: Final = "a callback, with and without the delivery log"
WITH: Final = "with the log"
WITHOUT: Final = "without"
_ROUNDS: Final = 4
# More than a round has callbacks.
_first_numbers = itertools.count(step=10_000_000)
_METRICS: Final = (CPU, "CPU of deliver, µs", "CPU of Redis, µs", FILE)


def measure(run: Run) -> None:
    """Make the table."""
    with ExitStack() as stack:
        contestants: dict[str, Callable[[], Measurements]] = {}
        for name, log_bytes in ((WITH, 64 << 20), (WITHOUT, 0)):
            deployment = stack.enter_context(Deployment())
            url = deployment.service(CALLBACKS_DELIVERY_LOG_BYTES=str(log_bytes))
            contestants[name] = partial(_load_anew, deployment, url, run.scale)
        run.compare(TABLE, contestants, repetitions=_ROUNDS * run.scale.repetitions)
    one, two = run.comparisons[0].series
    for metric in _METRICS:
        ratios = [a[metric] / b[metric] for a, b in zip(one.samples, two.samples, strict=True)]
        run.remarks.append(f"{metric}: {WITH} / {WITHOUT}, median of the rounds: {statistics.median(ratios):.3f}")


def _load_anew(deployment: Deployment, url: TargetUrl, scale: Scale) -> Measurements:
    """Load it with callbacks that it has not seen."""
    return under_load(deployment, url, scale, wait_until_settled, first=next(_first_numbers))


if __name__ == "__main__":
    command.main("delivery_log", measure, __doc__)
