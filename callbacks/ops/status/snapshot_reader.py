"""Reads a snapshot of the service's state in Redis, in three round trips however many jobs wait. It changes nothing."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson
import redis
from msgspec import Struct
from rq.utils import as_text

from callbacks.ops.status.damaged_values import DamagedValues
from callbacks.ops.status.snapshot import MAX_HANDLERS, QueueStatus, RefusedAddress, Snapshot, SpoolStatus
from shared import durability, durability_findings, keys, queue_jobs, queues, recent_outcomes, recent_rate, retention
from shared.failing_loops import FailingLoop, parse_failing_loops
from shared.metrics_push import STATE_SECONDS
from shared.queue_jobs import SIZE_REPLIES, QueueSizes
from shared.setting_values import Durability
from workers.expand import subscriptions
from workers.runtime import pause
from workers.runtime.pause import PauseState

# More processes than a deployment has.
_MAX_PROCESSES: Final = 1000
# Older dead letters and quarantined callbacks are a number, not a warning.
_RECENT_FAILURE_SECONDS: Final = 3600


def read_snapshot(connection: redis.Redis, level: Durability) -> Snapshot:
    """Read a snapshot; of a damaged value it has the key in `damaged`. Raise redis.RedisError."""
    damaged = DamagedValues()
    first, answers = _read_first(connection, damaged)
    info: dict[str, Any] = {}
    for answer in answers:
        info |= answer if isinstance(answer, dict) else {}
    numbers = damaged.counts(keys.COUNTS, first.counts)
    seconds, microseconds = first.time
    now_seconds = seconds + microseconds / 1_000_000
    nobody: frozenset[str] = frozenset()
    subscribed = damaged.parse(keys.SUBSCRIPTIONS, lambda: _subscribed(first.subscriptions), nobody)
    handlers = sorted({*keys.handler_names(numbers), *subscribed})[:MAX_HANDLERS]
    names = [queues.EXPAND, *map(queues.delivery_queue, handlers)]
    alive = [as_text(name) for name, last in first.processes if seconds - last <= STATE_SECONDS]
    recent_ms = (now_seconds - _RECENT_FAILURE_SECONDS) * 1000
    # For each command of the pipeline, its key and what stands for the value if that is damaged.
    expected: list[tuple[str, Any]] = [(keys.QUARANTINE, 0)]
    with connection.pipeline(transaction=False) as pipe:
        pipe.zcount(keys.QUARANTINE, recent_ms, "+inf")
        for handler in handlers:
            pipe.zcard(keys.dead(handler))
            pipe.zcount(keys.dead(handler), recent_ms, "+inf")
            expected += [(keys.dead(handler), 0)] * 2
        for process in alive:
            pipe.hget(keys.metrics_of(process), "state")
            expected.append((keys.metrics_of(process), None))
        for name in names:
            queue_jobs.request_sizes(pipe, name)
            pipe.lindex(keys.rq_queue(name), 0)
            pipe.smembers(keys.rq_workers(name))
            expected += [(keys.rq_queue(name), 0)] * SIZE_REPLIES
            expected += [(keys.rq_queue(name), None), (keys.rq_workers(name), set())]
        for handler in handlers:
            pipe.hgetall(keys.paused(handler))
            expected.append((keys.paused(handler), {}))
        found_replies = pipe.execute(raise_on_error=False)
    replies = iter(
        [damaged.reply(key, reply, default) for (key, default), reply in zip(expected, found_replies, strict=True)]
    )
    recent_quarantined = int(next(replies))
    dead = {handler: (int(next(replies)), int(next(replies))) for handler in handlers}
    states = [_parse_state(damaged, keys.metrics_of(process), next(replies)) for process in alive]
    found = {name: [next(replies) for _ in range(SIZE_REPLIES + 2)] for name in names}
    paused = {
        queues.delivery_queue(handler): _parse_pause(damaged, handler, next(replies), now_seconds)
        for handler in handlers
    }
    findings = durability.evaluate(level, answers)
    if durability_findings.is_replica(findings):
        connection.connection_pool.disconnect()  # the address may lead to the new primary by now
    return Snapshot(
        seconds=now_seconds,
        recent_rate=damaged.parse(
            keys.RECENT_RATE,
            lambda: recent_rate.parse(first.recent_rate, now_seconds=now_seconds),
            recent_rate.parse({}, now_seconds=now_seconds),
        ),
        recent_outcomes=damaged.parse(
            keys.RECENT_OUTCOMES, lambda: recent_outcomes.parse(first.recent_outcomes, now_seconds=now_seconds), {}
        ),
        counts=numbers,
        metrics=damaged.counts(keys.METRICS, first.metrics),
        findings=findings,
        used_bytes=int(info.get("used_memory", 0)),
        max_bytes=int(info.get("maxmemory", 0)),
        quarantined=int(first.quarantined),
        recent_quarantined=recent_quarantined,
        dead={handler: number for handler, (number, _) in dead.items()},
        recent_dead={handler: recent for handler, (_, recent) in dead.items()},
        subscribed=subscribed,
        queues=tuple(_queues(connection, found, paused, now_seconds=time.time())),
        spools=tuple(spool for state in states for spool in state.spools),
        failing=tuple(one for state in states for one in state.failing),
        refused_addresses=_newest_addresses(state.refused_addresses for state in states),
        retention=retention.parse_states(first.retention, now_seconds=now_seconds),
        damaged=tuple(damaged.keys),
    )


class _ProcessState(Struct, frozen=True):
    """What one process says of itself."""

    spools: tuple[SpoolStatus, ...] = ()
    failing: tuple[FailingLoop, ...] = ()
    refused_addresses: dict[str, RefusedAddress] = {}


def _parse_state(damaged: DamagedValues, key: str, text: bytes | None) -> _ProcessState:
    def parse() -> _ProcessState:
        state = orjson.loads(text or b"{}")
        addresses = dict(state.get("refused_addresses", {}))
        return _ProcessState(
            tuple(_spools([state])),
            tuple(parse_failing_loops(state)),
            {reason: RefusedAddress(str(address), float(ago)) for reason, (address, ago) in addresses.items()},
        )

    return damaged.parse(key, parse, _ProcessState())


def _parse_pause(
    damaged: DamagedValues, handler: str, fields: dict[bytes, bytes], now_seconds: float
) -> PauseState | None:
    return damaged.parse(
        keys.paused(handler), lambda: pause.parse_state(handler, fields, now_seconds=now_seconds), None
    )


def _subscribed(fields: Mapping[bytes, bytes]) -> frozenset[str]:
    return frozenset(
        as_text(name) for name, text in fields.items() if subscriptions.parse(as_text(text)).since_ms is not None
    )


class _First(NamedTuple):
    """The replies of the first round trip, in its order."""

    counts: dict[bytes, bytes]
    metrics: dict[bytes, bytes]
    quarantined: int
    processes: list[tuple[bytes, float]]
    recent_rate: dict[bytes, bytes]
    recent_outcomes: dict[bytes, bytes]
    subscriptions: dict[bytes, bytes]
    retention: dict[bytes, bytes]
    time: tuple[int, int]


def _read_first(connection: redis.Redis, damaged: DamagedValues) -> tuple[_First, Sequence[Any]]:
    with connection.pipeline(transaction=False) as pipe:
        pipe.hgetall(keys.COUNTS)
        pipe.hgetall(keys.METRICS)
        pipe.zcard(keys.QUARANTINE)
        pipe.zrange(keys.METRICS_PROCESSES, -_MAX_PROCESSES, -1, withscores=True)
        pipe.hgetall(keys.RECENT_RATE)
        pipe.hgetall(keys.RECENT_OUTCOMES)
        pipe.hgetall(keys.SUBSCRIPTIONS)
        pipe.hgetall(keys.RETENTION)
        pipe.time()
        durability.query(pipe)
        # CONFIG and WAITAOF may be forbidden: that is for `durability` to judge.
        replies: list[Any] = pipe.execute(raise_on_error=False)
    expected: tuple[tuple[str, Any], ...] = (
        (keys.COUNTS, {}),
        (keys.METRICS, {}),
        (keys.QUARANTINE, 0),
        (keys.METRICS_PROCESSES, []),
        (keys.RECENT_RATE, {}),
        (keys.RECENT_OUTCOMES, {}),
        (keys.SUBSCRIPTIONS, {}),
        (keys.RETENTION, {}),
        ("", (0, 0)),
    )
    number = len(_First.__annotations__)
    found = [
        damaged.reply(key, reply, default) for (key, default), reply in zip(expected, replies[:number], strict=True)
    ]
    return _First(*found), replies[number:]


def _queues(
    connection: redis.Redis, found: dict[str, list[Any]], paused: dict[str, PauseState | None], *, now_seconds: float
) -> Iterable[QueueStatus]:
    """Learn when the first waiting jobs were made, and who lives: a dead worker's hash expires, its name may stay."""
    with connection.pipeline(transaction=False) as pipe:
        for *_, first, workers in found.values():
            pipe.hget(keys.job(as_text(first or b"none")), "created_at")
            # EXISTS of no key at all is an error.
            pipe.exists("cb:none", *workers)
        replies = iter(pipe.execute())
    for name, (*sizes, _, _) in found.items():
        made = next(replies)
        jobs = QueueSizes.from_replies(sizes)
        yield QueueStatus(
            name=name,
            waiting=jobs.waiting + jobs.claimed,
            running=jobs.running,
            scheduled=jobs.scheduled,
            oldest_seconds=max(0.0, now_seconds - _unix_seconds(as_text(made))) if made else 0.0,
            workers=next(replies),
            pause_state=paused.get(name),
        )


def _unix_seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return math.inf  # set by hand: a job of no age


def _spools(states: Iterable[dict[str, Any]]) -> Iterable[SpoolStatus]:
    for state in states:
        if "state" in state:  # a worker's state is only what fails in it
            yield SpoolStatus(
                str(state["state"]),
                int(state["callbacks"]),
                int(state["bytes"]),
                int(state["limit_bytes"]),
                refused=int(state.get("refused", 0)),
                refused_left_seconds=float(state.get("refused_left_seconds", 0.0)),
            )


def _newest_addresses(of_processes: Iterable[Mapping[str, RefusedAddress]]) -> dict[str, RefusedAddress]:
    """Return the newest of all processes, by name. Each leaves out what is older than ten minutes."""
    found: dict[str, RefusedAddress] = {}
    for addresses in of_processes:
        for name, last in addresses.items():
            if name not in found or last.seconds_ago < found[name].seconds_ago:
                found[name] = last
    return found
