"""How close a handler that waits for others comes to the most that its concurrency allows. Goal P10.

The `forward` handler posts each event to an endpoint that answers in 50 ms; beside it, a handler that only waits as
long. With a concurrency of 32 no more than 32 / 0.05 s = 640 events a second can pass.
"""

import base64
import importlib.util
import sys
import time
from functools import partial
from math import ceil
from typing import Final

from benchmarks import backlog, command
from benchmarks.command import Run
from benchmarks.deployment import Deployment, MeasurementFailed, TargetUrl
from benchmarks.measurements import OURS, Measurements
from callbacks.cli.ports import free_port
from shared import keys, queues

FORWARD: Final = "workers.handlers.forward.handler"
SHARE: Final = "% of the most"
_CONCURRENCY: Final = 32
_ANSWER_SECONDS: Final = 0.05
_EVENTS: Final = 200
_PER_JOB: Final = 200


def measure(run: Run) -> None:
    """Make the table."""
    contestants = {f"{OURS}, a handler that waits": partial(_rate, "benchmarks.waiting_handler", "waits")}
    if importlib.util.find_spec(FORWARD) is None:
        run.absent["the forward handler"] = f"{FORWARD} is not there yet"
    else:
        contestants = {OURS: partial(_rate, FORWARD, "forward"), **contestants}
    for events in (_EVENTS, _EVENTS * 10) if run.scale.name == "full" else (_EVENTS,):
        run.compare(
            f"{events:,} events",
            {name: partial(passed, events) for name, passed in contestants.items()},
            repetitions=run.scale.long_repetitions,
        )
    rounds = ceil(_EVENTS / _CONCURRENCY)
    max_rate = _EVENTS / (rounds * _ANSWER_SECONDS)
    run.add_remark(
        f"{_EVENTS} events, {_CONCURRENCY} at a time, are {rounds} rounds of {_ANSWER_SECONDS * 1000:.0f} ms: even "
        f"without any cost {max_rate:.0f} events/s, {max_rate * _ANSWER_SECONDS / _CONCURRENCY:.0%} of the most. "
        "The longer the queue, the less it shows."
    )


def _rate(module: str, handler: str, events: int) -> Measurements:
    with Deployment() as deployment:
        endpoint = TargetUrl(free_port())
        serving = deployment.start(
            "the endpoint", [sys.executable, "-m", "benchmarks.endpoint", str(endpoint.port), str(_ANSWER_SECONDS)]
        )
        serving.wait_until(endpoint.answers, "its first answer")
        environment = {
            "CALLBACKS_FORWARD_URL": str(endpoint),
            "CALLBACKS_FORWARD_SECRETS": f"whsec_{base64.b64encode(bytes(32)).decode()}",
            "CALLBACKS_FORWARD_ALLOW_PRIVATE": "true",
        }
        redis, queue = deployment.redis, queues.delivery_queue(handler)
        backlog.fill(redis, events, per_job=_PER_JOB, reports=1)
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
        rate = events / (time.monotonic() - started)
        if redis.exists(keys.dead(handler)):
            raise MeasurementFailed(f"events died at the handler:\n{deliver.output[-2000:]}")
    return {"events/s": rate, SHARE: rate * _ANSWER_SECONDS / _CONCURRENCY * 100}


if __name__ == "__main__":
    command.main("forward", measure, "How close a waiting handler comes to what its concurrency allows: goal P10.")
