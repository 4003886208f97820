"""What a waiting callback, and a remembered event, take in Redis; and whether all of it is given back. Goal P9.

Redis's used_memory without its clients' and its file's buffers, before and after. Everything is measured on one
server that has drained a little before, so that scripts, queues and counters are there from the beginning. For the
sizing of a deployment also what an event takes that waits for its handler, and a callback in the append-only file
and in the spool.
"""

from typing import Any, Final

from benchmarks import backlog, bodies, command, redis_counts, wrk
from benchmarks.command import Run
from benchmarks.deployment import Deployment, MeasurementFailed, wait_until
from benchmarks.measurements import OURS, Measurements
from shared import keys, queues

TABLE: Final = "memory"
_BODY_BYTES: Final = len(bodies.body(0))
_FIRST_DRAIN: Final = 50
_SCAN: Final = 5_000
# Redis shrinks its tables in the background, at most a hundred times a second.
_STILL_SECONDS: Final = 0.5
_STILL_BYTES: Final = 1024
_SPOOL_SECONDS: Final = 1.0
_NOBODY: Final = "redis://127.0.0.1:1/0"
# What the figures are called that the sizing of a deployment is reckoned from.
REMEMBERED: Final = "remembered, bytes an event"
AT_HANDLER: Final = "waiting for a handler, bytes an event"
IN_FILE: Final = "in the append-only file, bytes a callback"
IN_SPOOL: Final = "in the spool, bytes a callback"


def measure(run: Run) -> None:
    """Make the table."""
    run.compare(TABLE, {OURS: lambda: of_callbacks(run.scale.callbacks)})
    run.remarks.append(
        f"A body has {_BODY_BYTES} bytes and {bodies.REPORTS} reports. 'not given back' is what is left "
        "when all is delivered and the marks of the remembered events have expired (here: are deleted). The delivery "
        "log is deleted, too: it takes what CALLBACKS_DELIVERY_LOG_BYTES allows, whatever waits or is remembered."
    )


def of_callbacks(callbacks: int) -> Measurements:
    """Measure with that number of waiting callbacks."""
    with Deployment() as deployment:
        redis = deployment.redis
        backlog.fill(redis, _FIRST_DRAIN)
        _drain(deployment)
        _forget(redis)
        start = _used(redis)
        backlog.fill(redis, callbacks)
        filled = _used(redis)
        _drain(deployment)
        drained = _used(redis)
        events = _forget(redis)
        if events != callbacks * bodies.REPORTS:
            raise MeasurementFailed(f"{callbacks * bodies.REPORTS} events were to be remembered, {events} are")
        end = _used(redis)
        measured = {
            "alone, bytes a callback": (filled - start) / callbacks,
            REMEMBERED: (drained - end) / events,
            "not given back, % of the most": (end - start) / (filled - start) * 100,
        }
        written = redis.info("persistence")["aof_current_size"]
        stored = backlog.fill_by_load(deployment, callbacks)
        measured["under load, x its body"] = (_used(redis) - end) / stored / _BODY_BYTES
        _expand(deployment)
        measured[AT_HANDLER] = (_used(redis) - end) / stored / bodies.REPORTS - measured[REMEMBERED]
        deliver = deployment.callbacks("worker", "deliver")
        expected = (callbacks + stored + _FIRST_DRAIN) * bodies.REPORTS
        backlog.wait_until_delivered(redis, [backlog.HANDLER], expected, deliver)
        deliver.stop()
        measured[IN_FILE] = (redis.info("persistence")["aof_current_size"] - written) / stored
        measured[IN_SPOOL] = _spooled(deployment)
    return measured


def _drain(deployment: Deployment) -> None:
    """Deliver what waits, and delete the delivery log."""
    backlog.drain(deployment)
    deployment.redis.delete(*deployment.redis.scan_iter(f"{keys.DELIVERY_LOG}*"))


def _expand(deployment: Deployment) -> None:
    """Expand what waits, and deliver nothing of it."""
    expand = deployment.callbacks("worker", "expand")
    queue_keys = (keys.rq_queue(queues.EXPAND), keys.rq_intermediate(queues.EXPAND), keys.rq_started(queues.EXPAND))
    expand.wait_until(lambda: not deployment.redis.exists(*queue_keys), "an empty queue")
    expand.stop()


def _spooled(deployment: Deployment) -> float:
    """Return the bytes of a callback in the spool, on disk, while Redis is unavailable."""
    url, process = deployment.web_process(REDIS_URL=_NOBODY)
    load = wrk.load(url, connections=64, seconds=_SPOOL_SECONDS)
    size_bytes = sum(file.stat().st_size for file in (deployment.folder / "spool").rglob("*"))
    process.stop()
    return size_bytes / load.requests


def _used(redis: Any) -> int:
    """Return the bytes of the data, once they do not change any more."""
    used = [0]

    def is_still() -> bool:
        used.append(redis_counts.memory_bytes(redis.info("memory")))
        return abs(used[-1] - used[-2]) <= _STILL_BYTES

    wait_until(is_still, "rest of Redis's memory", every=_STILL_SECONDS)
    return used[-1]


def _forget(redis: Any) -> int:
    """Delete the marks of all events seen, as time would; return how many there were."""
    sets = list(redis.scan_iter(f"{keys.SEEN}:*", count=_SCAN))
    # Each set has an empty member besides its marks: workers/runtime/marks.lua.
    forgotten = sum(int(redis.scard(key)) - 1 for key in sets)
    redis.delete(keys.SEEN, *sets)
    return forgotten


if __name__ == "__main__":
    command.main("memory", measure, "What waiting callbacks and remembered events take in Redis: goal P9.")
