"""What a callback costs, by measures that hold on any machine: CPU in requests of a no-op, bytes in bodies, counts.

A callback of three reports, from its POST until one batch handler, which does nothing, has settled it; all processes
and Redis together. Goals C1 to C5. The disk, the load generator and other work on the machine hardly change them.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import add
from typing import Any, Final

from benchmarks import backlog, bodies, command, memory, processor_time, redis_counts, wrk
from benchmarks.command import Run, Scale
from benchmarks.contestants import BULLMQ, BULLMQ_WORKER, NO_OP
from benchmarks.deployment import Deployment, MeasurementFailed, TargetUrl, wait_until
from benchmarks.longest_wait import longest_wait_ms
from benchmarks.measurements import OURS, Comparison, Measurements
from benchmarks.redis_counts import RedisCounts
from shared import audit, keys

# With a key that encrypts what waits.
SEALED: Final = f"{OURS}, sealed"
UNDER_LOAD: Final = "a callback, 64 connections"
BY_HANDLERS: Final = "a callback, by handlers"
BLOCKS: Final = "longest blocks"
CPU: Final = "CPU, µs"
_CPU_ENDS: Final = (", µs", ", µs in the kernel")
FILE: Final = "append-only file, x the body"
REDIS_CPU: Final = "CPU of Redis, µs"
SCRIPT: Final = "Redis by one script, ms"
LOOP: Final = "web process by a body of 11 MB, ms"
PER_SECOND: Final = "callbacks/s"
COUNTS: Final = ("commands", "round trips", "fsyncs", "keys left")
_BODY_BYTES: Final = len(bodies.body(0))
_CONNECTIONS: Final = 64
_PER_JOB: Final = 40
HANDLERS: Final = (1, 4, 12)
# Reports in one callback, for the longest script.
_BUNDLE: Final = 5_000
_POLL_SECONDS: Final = 0.05
# So its worker never prints a rate.
_NEVER_DONE: Final = {"BENCHMARK_CALLBACKS": str(10**12)}


def measure(run: Run) -> None:
    """Make the table."""
    scale = run.scale
    if why := processor_time.missing_instructions():
        run.absent["instructions"] = why
    contestants: dict[str, Callable[[], Measurements]] = {
        OURS: partial(_ours, scale),
        SEALED: partial(_ours, scale, is_sealed=True),
        NO_OP.name: partial(_no_op, scale),
    }
    if run.present([BULLMQ]):
        contestants[BULLMQ.name] = partial(_bullmq, scale)
    run.compare(UNDER_LOAD, contestants)
    points = HANDLERS[:1] if scale.name == "tiny" else HANDLERS
    run.compare(BY_HANDLERS, {str(number): partial(_handlers, scale.callbacks, number) for number in points})
    run.compare(BLOCKS, {OURS: partial(_blocks, min(scale.callbacks, 2 * _BUNDLE), points[-1])})
    run.compare(memory.TABLE, {OURS: partial(memory.of_callbacks, scale.callbacks)})
    run.remarks.append(
        f"A body has {_BODY_BYTES} bytes and {bodies.REPORTS} reports. CPU is that of all processes but the load "
        "generator's. Longest blocks are wall-clock time: another process on the core makes them longer."
    )


def _ours(scale: Scale, *, is_sealed: bool = False) -> Measurements:
    with Deployment() as deployment:
        key = deployment.folder / "seal_keys"
        key.write_text(secrets.token_hex(32))
        url = deployment.service(CALLBACKS_SEAL_KEYS_FILE=str(key) if is_sealed else "")
        return under_load(deployment, url, scale, wait_until_settled)


def _no_op(scale: Scale) -> Measurements:
    with Deployment() as deployment:
        return under_load(deployment, NO_OP.start(deployment), scale, None)


def _bullmq(scale: Scale) -> Measurements:
    with Deployment() as deployment:
        url = BULLMQ.start(deployment)
        deployment.start("BullMQ", [*BULLMQ_WORKER.command, "work"], _NEVER_DONE)
        return under_load(deployment, url, scale, _settled_by_bullmq)


def under_load(
    deployment: Deployment, url: TargetUrl, scale: Scale, settled: Callable[[Any], int] | None, *, first: int = 0
) -> Measurements:
    """Load `url` from 64 connections, with callbacks numbered from `first`; return what one of them took."""
    load = partial(wrk.load, url, connections=_CONNECTIONS, seconds=scale.load_seconds, first=first)
    wrk.warm_up(url, connections=_CONNECTIONS, first=first)
    return per_callback([deployment], lambda: load().requests, settled)


def per_callback(
    deployments: Sequence[Deployment], load: Callable[[], int], settled: Callable[[Any], int] | None
) -> Measurements:
    """Load, wait until all is settled, and divide what it took by the number of callbacks.

    `load` returns how many were acknowledged. `settled` waits until a service has nothing more to do, and returns how
    many callbacks its Redis has seen; it is None for a server that keeps nothing.
    """
    servers = [deployment.redis for deployment in deployments]
    before = sum(map(settled, servers)) if settled else 0
    cpu, counts = processor_time.by_name(deployments), reduce(add, map(redis_counts.read, servers))
    started = time.monotonic()
    with processor_time.instructions(deployments) as instructions:
        callbacks = load()
        if settled:
            callbacks = sum(map(settled, servers)) - before
    seconds = time.monotonic() - started
    counts = reduce(add, map(redis_counts.read, servers)) - counts
    each = {name: (us - cpu[name]) / callbacks for name, us in processor_time.by_name(deployments).items()}
    each |= _counted(counts, callbacks) if settled else {}
    if instructions:
        each["instructions"] = instructions[0] / callbacks
    total = {f"CPU{end}": sum(us for name, us in each.items() if name.endswith(end)) for end in _CPU_ENDS}
    return total | each | {"callbacks": callbacks, PER_SECOND: callbacks / seconds}


def _counted(counts: RedisCounts, callbacks: int) -> Measurements:
    numbers = (counts.commands, counts.round_trips, counts.fsyncs, counts.keys)
    return {
        **processor_time.metrics("Redis", counts.user_us / callbacks, counts.kernel_us / callbacks),
        FILE: counts.file_bytes / callbacks / _BODY_BYTES,
        **{name: number / callbacks for name, number in zip(COUNTS, numbers, strict=True)},
    }


def wait_until_settled(redis: Any) -> int:
    """Wait until all that was received is delivered; return how many callbacks that were since the start."""
    received = keys.counter("report", "received")
    delivered = keys.handler_counter("nothing0", "report", "delivered")
    seen = [-1]

    def is_settled() -> bool:
        counters = [int(count or 0) for count in redis.hmget(keys.COUNTS, received, delivered)]
        seen.append(counters[0])
        # The same twice, as callbacks that were under way when the load ended are still coming.
        return counters[0] == counters[1] == seen[-2]

    wait_until(is_settled, "the delivery of all events", every=_POLL_SECONDS)
    if not audit.run(redis).balances:
        raise MeasurementFailed(f"the audit does not balance: {audit.run(redis)}")
    return seen[-1] // bodies.REPORTS


def _settled_by_bullmq(redis: Any) -> int:
    queues = ("bull:callbacks:wait", "bull:callbacks:active")
    wait_until(lambda: not redis.exists(*queues), "the end of BullMQ's jobs", every=_POLL_SECONDS)
    return int(redis.get("bull:callbacks:id") or 0)


def _handlers(callbacks: int, handlers: int) -> Measurements:
    """Commit and drain callbacks with that number of batch handlers; their processes' start is not counted."""
    with Deployment() as deployment:
        redis = deployment.redis
        started = redis_counts.read(redis)
        backlog.fill(redis, callbacks, per_job=_PER_JOB)
        filling = redis_counts.read(redis) - started
        ready: list[RedisCounts] = []
        backlog.drain(
            deployment, handlers=handlers, batch=True, on_ready=lambda *_: ready.append(redis_counts.read(redis))
        )
        return _counted(filling + (redis_counts.read(redis) - ready[0]), callbacks)


def of_a_handler(comparison: Comparison, metric: str) -> float | None:
    """Return what a handler more costs, of the most that were measured; None if one or the most were not."""
    one, most = comparison.of(str(HANDLERS[0])), comparison.of(str(HANDLERS[-1]))
    if one is None or most is None:
        return None
    return (most.median(metric) - one.median(metric)) / (HANDLERS[-1] - HANDLERS[0])


def _blocks(callbacks: int, handlers: int) -> Measurements:
    """Find the longest script while small callbacks and large bundles wait for many handlers, and the web's block."""
    with Deployment() as deployment:
        redis = deployment.redis
        backlog.fill(redis, callbacks, per_job=_PER_JOB)
        backlog.fill(redis, 2, reports=_BUNDLE, first=wrk.WARM_UP_FIRST)
        redis_counts.watch_scripts(redis)
        backlog.drain(deployment, handlers=handlers, batch=True)
        script_ms = redis_counts.longest_script_ms(redis)
        url = deployment.web_process(CALLBACKS_MAX_BODY_BYTES=str(16 << 20))[0]
        return {SCRIPT: script_ms, LOOP: longest_wait_ms(url)}


if __name__ == "__main__":
    command.main("cost", measure, "What a callback costs, by measures that hold on any machine: goals C1 to C5.")
