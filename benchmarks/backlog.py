"""Waiting callbacks, and how long the workers take to deliver all of them.

They are committed by the product's own code, as one job each, as jobs of any size, or by real load while no worker
runs. The queue is then renamed, so that workers cannot see it, until they are ready. It is renamed back in one step;
the time runs from there until the last event is settled as delivered.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from benchmarks import bodies, wrk
from benchmarks.deployment import DeployedProcess, Deployment, MeasurementFailed
from ingest.group_commit import MAX_BYTES, MAX_CALLBACKS
from shared import audit, batches, keys, queues
from shared.batches import Accepted

HANDLER: Final = "nothing0"
_HIDDEN_QUEUE: Final = "benchmark:hidden"
_JOBS_A_WRITE: Final = 50
_FILL_SECONDS: Final = 1.0
# The number of the first callback of a warm-up, above those of any backlog.
_FIRST_OF_WARM_UP: Final = 10_000_000_000
_PER_JOB_OF_WARM_UP: Final = 40
# From a worker's registration in Redis until it waits for a job.
SETTLE_SECONDS: Final = 0.5


def fill(redis: Any, callbacks: int, *, per_job: int = 1, reports: int = bodies.REPORTS, first: int = 0) -> None:
    """Commit callbacks numbered from `first`, `reports` in each, up to `per_job` in a job, or as many as fit."""
    with redis.pipeline(transaction=False) as pipe:
        for number, stored in enumerate(_batches(range(first, first + callbacks), per_job, reports), start=1):
            for command in batches.commit_commands(stored):
                pipe.execute_command(*command)
            if number % _JOBS_A_WRITE == 0:
                pipe.execute()
        pipe.execute()


def _batches(numbers: range, per_job: int, reports: int) -> Iterator[list[Accepted]]:
    stored: list[Accepted] = []
    size_bytes = 0
    for number in numbers:
        body = bodies.body(number, reports=reports)
        if stored and (len(stored) >= min(per_job, MAX_CALLBACKS) or size_bytes + len(body) > MAX_BYTES):
            yield stored
            stored, size_bytes = [], 0
        stored.append(Accepted("status", "benchmark", batches.now_ms(), reports, body.decode()))
        size_bytes += len(body)
    if stored:
        yield stored


def fill_by_load(deployment: Deployment, callbacks: int, *, connections: int = 64) -> int:
    """Post at least `callbacks` callbacks while no worker runs; return how many were accepted.

    The web process is gone afterwards.
    """
    url, process = deployment.web_process()
    first = stored = 0
    before = audit.run(deployment.redis).received
    while stored < callbacks:
        load = wrk.load(url, connections=connections, seconds=_FILL_SECONDS, first=first)
        first += load.requests + connections
        time.sleep(0.2)
        stored = (audit.run(deployment.redis).received - before) // bodies.REPORTS
    process.stop()
    return stored


def job_sizes(redis: Any) -> list[int]:
    """Return how many callbacks each waiting job holds."""
    with redis.pipeline(transaction=False) as pipe:
        for job_id in redis.lrange(keys.rq_queue(queues.EXPAND), 0, -1):
            pipe.hget(keys.job(job_id.decode()), "items")
        return [int(items) // bodies.REPORTS for items in pipe.execute()]


def drain(
    deployment: Deployment,
    *,
    expanders: int = 1,
    deliverers: int = 1,
    handlers: int = 1,
    batch: bool = False,
    warm_up: int = 0,
    on_ready: Callable[[DeployedProcess, DeployedProcess], Any] | None = None,
    on_delivered: Callable[[], Any] | None = None,
) -> float:
    """Start workers, release the queue, and return the seconds until every event is delivered.

    `handlers` is how many handlers there are, `batch` whether these take whole batches. The workers deliver `warm_up`
    other callbacks before. `on_ready` is called with the processes of `expand` and `deliver` just before, and
    `on_delivered` just after, while they still run.
    Raises MeasurementFailed if the audit does not balance afterwards, or an event died.
    """
    redis = deployment.redis
    hold_queue(redis, queues.EXPAND)
    environment = {"BENCHMARK_HANDLERS": str(handlers), "BENCHMARK_BATCH": "yes" if batch else "no"}
    expand = deployment.callbacks("worker", "expand", "--processes", str(expanders), **environment)
    deliver = deployment.callbacks("worker", "deliver", "--processes", str(deliverers), **environment)
    workers = expanders + deliverers * handlers
    deliver.wait_until(lambda: redis.scard("rq:workers") >= workers, f"{workers} workers")
    names = [f"nothing{number}" for number in range(handlers)]
    if warm_up:
        fill(redis, warm_up, per_job=_PER_JOB_OF_WARM_UP, first=_FIRST_OF_WARM_UP)
        wait_until_delivered(redis, names, warm_up * bodies.REPORTS, deliver)
    time.sleep(SETTLE_SECONDS)
    expected = audit.run(redis).received
    if on_ready is not None:
        on_ready(expand, deliver)
    started = time.monotonic()
    release_queue(redis, queues.EXPAND)
    wait_until_delivered(redis, names, expected, deliver)
    took = time.monotonic() - started
    if on_delivered is not None:
        on_delivered()
    sums = audit.run(redis)
    if not sums.balances or sums.pending or sums.unique != expected:
        raise MeasurementFailed(f"the audit does not balance: {sums}")
    for process in (deliver, expand):
        process.stop()
    return took


def hold_queue(redis: Any, queue: str) -> None:
    """Rename a queue, so that no worker sees it."""
    redis.rename(keys.rq_queue(queue), _HIDDEN_QUEUE)


def release_queue(redis: Any, queue: str) -> None:
    """Rename the queue back in one step, which wakes the waiting workers."""
    redis.rename(_HIDDEN_QUEUE, keys.rq_queue(queue))


def wait_until_delivered(redis: Any, handlers: Sequence[str], expected: int, deliver: DeployedProcess) -> None:
    """Wait until each handler has delivered `expected` events."""
    counters = [keys.handler_counter(name, "report", "delivered") for name in handlers]
    deliver.wait_until(
        lambda: all(int(count or 0) >= expected for count in redis.hmget(keys.COUNTS, counters)),
        f"the delivery of {expected} events to each handler",
    )
