"""The whole service at once: web, expand, deliver, Redis and the load on the same cores, from POST to handler.

Goals P7 (3,000 callbacks a second, open loop) and P8 (20 a second, quiet). Redis rewrites its file when it likes to,
as in production. The handler remarks when each event comes; the time counts from when its callback was due to be sent.
"""

import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import bodies, command, open_loop
from benchmarks.command import Run
from benchmarks.deployment import Deployment, MeasurementFailed, wait_until
from benchmarks.measurements import OURS, Measurements, percentile
from benchmarks.open_loop import Sent
from shared import keys

BUSY: Final = "open loop"
QUIET: Final = "quiet"
_QUIET_RATE: Final = 20.0
_WARM_UP_SECONDS: Final = 2.0
_WARM_UP_FIRST: Final = 50_000_000_000
_SAMPLE_SECONDS: Final = 0.25


def measure(run: Run) -> None:
    """Make the table."""
    scale = run.scale
    for name, rate, seconds in (
        (BUSY, scale.open_loop_rate, 2 * scale.quiet_seconds),
        (QUIET, _QUIET_RATE, scale.quiet_seconds),
    ):
        run.compare(
            f"{name}, {rate:,.0f} callbacks/s",
            {OURS: partial(_end_to_end, rate, seconds)},
        )
    run.remarks.append(
        "The load generator is a Python process on the same cores; 'sent late ms' is how long after it was due the "
        "latest was sent."
    )


def _end_to_end(rate: float, seconds: float) -> Measurements:
    with Deployment(rewrites=True) as deployment:
        arrivals = deployment.folder / "arrivals"
        handler = {"handlers": "benchmarks.timing_handler", "BENCHMARK_ARRIVALS": str(arrivals)}
        expand, deliver = deployment.workers(**handler)
        url = deployment.web()
        open_loop.result(open_loop.start(url, rate, min(seconds, _WARM_UP_SECONDS), _WARM_UP_FIRST))
        _wait_until_delivered(deployment.redis)
        sending = open_loop.start(url, rate, seconds, 0)
        backlog = _sample_backlog(deployment.redis, sending)
        sent = open_loop.result(sending)
        _wait_until_delivered(deployment.redis)
        deliver.stop()
        expand.stop()
        return _measurements(sent, arrivals, backlog)


def _sample_backlog(redis: Any, sending: "subprocess.Popen[str]") -> list[int]:
    """Return how many events were waiting, sampled a few times a second while the load ran."""
    backlog: list[int] = []
    while sending.poll() is None:
        backlog.append(_on_their_way(redis))
        time.sleep(_SAMPLE_SECONDS)
    return backlog


def _on_their_way(redis: Any) -> int:
    received, delivered = redis.hmget(
        keys.COUNTS, keys.counter("report", "received"), keys.handler_counter("arrived", "report", "delivered")
    )
    return int(received or 0) - int(delivered or 0)


def _wait_until_delivered(redis: Any) -> None:
    wait_until(lambda: not _on_their_way(redis), "the delivery of all events", every=0.02)


def _measurements(sent: Sent, arrivals: Path, backlog: list[int]) -> Measurements:
    took_ms: list[float] = []
    with arrivals.open() as lines:
        for line in lines:
            message_id, _, at_ns = line.partition(" ")
            number = bodies.number_of(message_id)
            if number < _WARM_UP_FIRST:
                took_ms.append((int(at_ns) - sent.due_ns(number)) / 1e6)
    if len(took_ms) != sent.sent * bodies.REPORTS:
        raise MeasurementFailed(
            f"{sent.sent} callbacks of {bodies.REPORTS} reports were sent, {len(took_ms)} came to the handler"
        )
    half = max(1, len(backlog) // 2)
    return {
        "callbacks": sent.sent,
        "p50 ms": percentile(took_ms, 0.5),
        "p99 ms": percentile(took_ms, 0.99),
        "max ms": max(took_ms),
        "acknowledged p50 ms": sent.acknowledged_p50_ms,
        "acknowledged p99 ms": sent.acknowledged_p99_ms,
        "events on their way, first half": percentile(backlog[:half], 0.5) if backlog else 0.0,
        "events on their way, second half": percentile(backlog[half:], 0.5) if backlog[half:] else 0.0,
        "sent late ms": sent.late_max_ms,
    }


if __name__ == "__main__":
    command.main("end_to_end", measure, "From POST to handler, everything on the same cores: goals P7 and P8.")
