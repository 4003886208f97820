"""How close a handler that waits for others comes to the most that its concurrency allows. Goal P10.

The `forward` handler posts each event to an endpoint that answers in 50 ms; it is compared with a handler that only
waits as long. With a concurrency of 32 that takes a round of 50 ms for each 32 events, and one for those that are left:
350 ms for 200 events.
"""

import math
import time
from functools import partial
from typing import Final

from benchmarks import backlog, command, endpoint
from benchmarks.command import Run
from benchmarks.deployment import Deployment, MeasurementFailed
from benchmarks.measurements import OURS, Measurements
from shared import keys, queues

SHARE: Final = "% of the most"
_CONCURRENCY: Final = 32
_ANSWER_SECONDS: Final = 0.05
_EVENTS: Final = 200


def measure(run: Run) -> None:
    """Make the table."""
    for events in (_EVENTS, _EVENTS * 10) if run.scale.name == "full" else (_EVENTS,):
        run.compare(
            f"{events:,} events",
            {
                OURS: partial(_rate, "forward", "forward", events),
                f"{OURS}, a handler that waits": partial(_rate, "benchmarks.waiting_handler", "waits", events),
            },
        )


def _rate(module: str, handler: str, events: int) -> Measurements:
    with Deployment() as deployment:
        environment = endpoint.start(deployment, _ANSWER_SECONDS)
        redis, queue = deployment.redis, queues.delivery_queue(handler)
        backlog.fill(redis, events, per_job=_EVENTS, reports=1)
        expand = deployment.callbacks("worker", "expand", handlers=module, **environment)
        counter = keys.handler_counter(handler, "report", "queued")
        expand.wait_until(lambda: int(redis.hget(keys.COUNTS, counter) or 0) == events, "all were expanded")
        expand.stop()
        backlog.hold_queue(redis, queue)
        deliver = deployment.callbacks("worker", "deliver", "--handler", handler, handlers=module, **environment)
        deliver.wait_until(lambda: redis.scard("rq:workers") == 1, "a worker")
        time.sleep(backlog.SETTLE_SECONDS)
        started = time.monotonic()
        backlog.release_queue(redis, queue)
        backlog.wait_until_delivered(redis, [handler], events, deliver)
        seconds = time.monotonic() - started
        if redis.exists(keys.dead(handler)):
            raise MeasurementFailed(f"events died at the handler:\n{deliver.output[-2000:]}")
    min_seconds = math.ceil(events / _CONCURRENCY) * _ANSWER_SECONDS
    return {"events/s": events / seconds, SHARE: min_seconds / seconds * 100}


if __name__ == "__main__":
    command.main("forward", measure, "How close a waiting handler comes to what its concurrency allows: goal P10.")
