"""What a callback costs, by measures that hold on any machine: CPU in requests of a no-op, bytes in bodies, counts.

A callback of three reports, from its POST until one batch handler, which does nothing, has settled it; all processes
and Redis together. Goals C1 to C5. The disk, the load generator and other work on the machine hardly change them.
"""

import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import backlog, bodies, command, machine, memory, processor_time, redis_counts, wrk
from benchmarks.command import Run, Scale
from benchmarks.contestants import BULLMQ, BULLMQ_WORKER, CONSUMER_RIVALS, NO_OP, SERVER_OF_BULLMQ
from benchmarks.deployment import Deployment, MeasurementFailed, TargetUrl
from benchmarks.longest_wait import longest_wait_ms
from benchmarks.measurements import OURS, Measurements
from benchmarks.redis_counts import RedisCounts
from shared import audit, keys

# With a key that encrypts what waits.
SEALED: Final = f"{OURS}, sealed"
UNDER_LOAD: Final = "a callback, 64 connections"
BY_HANDLERS: Final = "a callback, by handlers"
BLOCKS: Final = "longest blocks"
CPU: Final = "CPU, µs"
FILE: Final = "append-only file, x the body"
REDIS_CPU: Final = "CPU of Redis, µs"
SCRIPT: Final = "Redis by one script, ms"
LOOP: Final = "web process by a body of 11 MB, ms"
COUNTS: Final = ("commands", "round trips", "fsyncs", "keys left")
_BODY_BYTES: Final = len(bodies.body(0))
_WARM_UP_FIRST: Final = 50_000_000_000
_CONNECTIONS: Final = 64
_PER_JOB: Final = 40
HANDLERS: Final = (1, 4, 12)
# Reports in one callback, for the longest script.
_BUNDLE: Final = 5_000
_TIMEOUT_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.05
# So its worker never prints a rate.
_NEVER_DONE: Final = {"BENCHMARK_CALLBACKS": str(10**12)}


def measure(run: Run) -> None:
    """Make the table."""
    scale = run.scale
    if why := processor_time.missing_instructions():
        run.absent["instructions"] = why
    if why := machine.missing("wrk"):
        run.absent[UNDER_LOAD] = why
    else:
        contestants: dict[str, Callable[[], Measurements]] = {
            OURS: partial(_ours, scale),
            SEALED: partial(_ours, scale, is_sealed=True),
            NO_OP.name: partial(_no_op, scale),
        }
        if run.peers and (why := SERVER_OF_BULLMQ.absent()):
            run.absent[BULLMQ] = why
        elif run.peers:
            contestants[BULLMQ] = partial(_bullmq, scale)
        run.compare(UNDER_LOAD, contestants)
    rounds = scale.long_repetitions
    points = HANDLERS[:1] if scale.name == "tiny" else HANDLERS
    by_handlers: dict[str, Callable[[], Measurements]] = {
        str(number): partial(_handlers, scale.growth_callbacks, number) for number in points
    }
    run.compare(BY_HANDLERS, by_handlers, repetitions=rounds)
    blocks = partial(_blocks, min(scale.growth_callbacks, 2 * _BUNDLE), points[-1])
    run.compare(BLOCKS, {OURS: blocks}, repetitions=rounds)
    run.compare(memory.TABLE, {OURS: partial(memory.of_callbacks, scale.growth_callbacks)}, repetitions=rounds)
    run.add_remark(
        f"A body has {_BODY_BYTES} bytes and {bodies.REPORTS} reports. CPU is that of all processes but the load "
        "generator's. Longest blocks are wall-clock time: another process on the core makes them longer."
    )


def _ours(scale: Scale, *, is_sealed: bool = False) -> Measurements:
    with Deployment() as deployment:
        key = _make_key(deployment.folder) if is_sealed else ""
        batch = {"handlers": "benchmarks.several_handlers", "BENCHMARK_HANDLERS": "1", "BENCHMARK_BATCH": "yes"}
        batch["CALLBACKS_SEAL_KEYS_FILE"] = key
        deployment.callbacks("worker", "expand", **batch)
        deployment.callbacks("worker", "deliver", **batch)
        url, _ = deployment.web_process(CALLBACKS_SEAL_KEYS_FILE=key)
        return under_load(deployment, url, scale, wait_until_settled)


def _make_key(folder: Path) -> str:
    file = folder / "seal_keys"
    file.write_text(secrets.token_hex(32))
    return str(file)


def _no_op(scale: Scale) -> Measurements:
    with Deployment() as deployment:
        return under_load(deployment, NO_OP.start(deployment), scale, None)


def _bullmq(scale: Scale) -> Measurements:
    worker = next(one for one in CONSUMER_RIVALS if one.name == BULLMQ_WORKER)
    with Deployment() as deployment:
        url = SERVER_OF_BULLMQ.start(deployment)
        deployment.start("BullMQ", worker.work, _NEVER_DONE)
        return under_load(deployment, url, scale, _settled_by_bullmq)


def under_load(
    deployment: Deployment, url: TargetUrl, scale: Scale, settled: Callable[[Any], int] | None, *, first: int = 0
) -> Measurements:
    """Load `url`, wait until all is `settled`, and divide what it took by the number of callbacks.

    `settled` is None for a server that keeps nothing. `first` is the number of the first callback.
    """
    redis = deployment.redis
    wrk.load(url, connections=_CONNECTIONS, seconds=scale.warm_up_seconds, first=first + _WARM_UP_FIRST)
    before = settled(redis) if settled else 0
    cpu, counts = processor_time.by_name(deployment), redis_counts.read(redis)
    with processor_time.instructions(deployment) as instructions:
        load = wrk.load(url, connections=_CONNECTIONS, seconds=scale.load_seconds, first=first)
        callbacks = settled(redis) - before if settled else load.requests
    after, counts = processor_time.by_name(deployment), redis_counts.read(redis) - counts
    each = {name: (seconds - cpu[name]) / callbacks * 1e6 for name, seconds in after.items()}
    measured = {CPU: sum(each.values()) + (counts.cpu_us / callbacks if settled else 0)}
    measured |= {f"CPU of {name}, µs": us for name, us in each.items()}
    if instructions:
        measured["instructions"] = instructions[0] / callbacks
    return measured | (_counted(counts, callbacks) if settled else {}) | {"callbacks": callbacks}


def _counted(counts: RedisCounts, callbacks: int) -> Measurements:
    numbers = (counts.commands, counts.round_trips, counts.fsyncs, counts.keys)
    return {
        REDIS_CPU: counts.cpu_us / callbacks,
        FILE: counts.file_bytes / callbacks / _BODY_BYTES,
        **{name: number / callbacks for name, number in zip(COUNTS, numbers, strict=True)},
    }


def wait_until_settled(redis: Any) -> int:
    """Wait until all that was received is delivered; return how many callbacks that were since the start."""
    received = keys.counter("report", "received")
    delivered = keys.handler_counter("nothing0", "report", "delivered")
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    before = -1
    while True:
        counters = [int(count or 0) for count in redis.hmget(keys.COUNTS, received, delivered)]
        # The same twice, as callbacks that were under way when the load ended are still coming.
        if counters[0] == counters[1] == before:
            break
        if time.monotonic() > deadline:
            raise MeasurementFailed(f"not all events were delivered in {_TIMEOUT_SECONDS:.0f} s: {audit.run(redis)}")
        before = counters[0]
        time.sleep(_POLL_SECONDS)
    if not audit.run(redis).balances:
        raise MeasurementFailed(f"the audit does not balance: {audit.run(redis)}")
    return before // bodies.REPORTS


def _settled_by_bullmq(redis: Any) -> int:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while redis.exists("bull:callbacks:wait", "bull:callbacks:active"):
        if time.monotonic() > deadline:
            raise MeasurementFailed(f"BullMQ was not done after {_TIMEOUT_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
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


def _blocks(callbacks: int, handlers: int) -> Measurements:
    """Find the longest script while small callbacks and large bundles wait for many handlers, and the web's block."""
    with Deployment() as deployment:
        redis = deployment.redis
        backlog.fill(redis, callbacks, per_job=_PER_JOB)
        backlog.fill(redis, 2, reports=_BUNDLE, first=_WARM_UP_FIRST)
        redis_counts.watch_scripts(redis)
        backlog.drain(deployment, handlers=handlers, batch=True)
        script_ms = redis_counts.longest_script_ms(redis)
        url = deployment.web_process(CALLBACKS_MAX_BODY_BYTES=str(16 << 20))[0]
        return {SCRIPT: script_ms, LOOP: longest_wait_ms(url)}


if __name__ == "__main__":
    command.main("cost", measure, "What a callback costs, by measures that hold on any machine: goals C1 to C5.")
