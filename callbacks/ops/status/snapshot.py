"""A snapshot of the service's state in Redis, read in three round trips however many jobs wait. It changes nothing."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import orjson
import redis
from msgspec import Struct
from rq.utils import as_text

from callbacks.ops.status.damaged_values import DamagedValues
from shared import (
    audit,
    durability,
    durability_findings,
    keys,
    last_times,
    queue_jobs,
    queues,
    recent_outcomes,
    recent_rate,
    retention,
)
from shared.durability_findings import Finding
from shared.failing_loops import FailingLoop, parse_failing_loops
from shared.last_times import LAST_ACCEPTED, LastTimes
from shared.metrics import MAX_UNKNOWN_STATUSES, OTHER, SEPARATOR, UNKNOWN_STATUS
from shared.metrics_push import STATE_SECONDS
from shared.queue_jobs import SIZE_REPLIES, QueueSizes
from shared.recent_outcomes import RecentOutcomes
from shared.recent_rate import RecentRate
from shared.retention import RetentionState
from shared.setting_values import Durability
from shared.stored_times import stored_time
from workers.expand import subscriptions
from workers.runtime import pause
from workers.runtime.pause import PauseState

# More handlers, or processes, than a deployment has. Others are not shown, which limits the number of series.
MAX_HANDLERS: Final = 100
_MAX_PROCESSES: Final = 1000
# Older dead letters and quarantined callbacks are a number, not a warning.
_RECENT_FAILURE_SECONDS: Final = 3600
KINDS: Final[tuple[keys.CountedKind, ...]] = ("report", "reply", "unknown")
OUTCOMES: Final[tuple[keys.DeliveryOutcome, ...]] = (
    "queued", "delivered", "filtered", "dead", "dropped", "forgotten"
)  # fmt: skip


class SpoolStatus(Struct, frozen=True):
    """A web process's spool, as it reports: "none", "drained", "filling", "full" or "failing", and how much is in it.

    `refused` are the callbacks that neither Redis nor the spool could keep, until ten minutes after the last; the
    gateway sends the first of them again for another `refused_left_seconds`.
    """

    state: str
    callbacks: int
    size_bytes: int
    limit_bytes: int
    refused: int = 0
    refused_left_seconds: float = 0.0


class RefusedAddress(Struct, frozen=True):
    """The address of a refused request, and how many seconds ago it was refused."""

    address: str
    seconds_ago: float


class QueueStatus(Struct, frozen=True, kw_only=True):
    """A queue: jobs waiting, running and to be tried later, the age of the first that waits, workers that live.

    `pause_state` says who paused it, and why.
    """

    name: str
    pause_state: PauseState | None = None
    waiting: int
    running: int
    scheduled: int
    oldest_seconds: float
    workers: int

    @property
    def is_idle(self) -> bool:
        """Whether it has workers and no job."""
        return bool(self.workers) and not self.waiting + self.running + self.scheduled

    @property
    def paused_by(self) -> str:
        """Who paused it: its "handler", an "operator", "memory" (it fails, and Redis is nearly full), or ""."""
        return "" if self.pause_state is None else self.pause_state.by


class Snapshot(Struct, frozen=True, kw_only=True):
    """All of it, at the time `seconds` of Redis.

    `dead` counts a handler's dead letters, `recent_dead` those of the last hour, `recent_outcomes` its attempts of the
    last ten minutes. `subscribed` are the handlers that get new events. `refused_addresses` has, by
    `refusals.address_name`, the address of the last refused request in ten minutes. `damaged` are the keys of values
    that cannot be read.
    """

    seconds: float
    recent_rate: RecentRate
    counts: dict[str, int]
    metrics: dict[str, int]
    findings: tuple[Finding, ...]
    used_bytes: int
    max_bytes: int
    quarantined: int
    recent_quarantined: int = 0
    dead: dict[str, int]
    recent_dead: dict[str, int] = msgspec.field(default_factory=dict)
    recent_outcomes: dict[str, RecentOutcomes] = msgspec.field(default_factory=dict)
    subscribed: frozenset[str] = frozenset()
    queues: tuple[QueueStatus, ...]
    spools: tuple[SpoolStatus, ...]
    failing: tuple[FailingLoop, ...] = ()
    retention: tuple[RetentionState, ...] = ()
    refused_addresses: dict[str, RefusedAddress] = msgspec.field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    @property
    def jobs(self) -> int:
        """How many jobs there are, whatever their state: what an audit has to read."""
        return sum(queue.waiting + queue.running + queue.scheduled for queue in self.queues)

    @property
    def silent_seconds(self) -> float | None:
        """For how long no callback was accepted, before the first one since a web process started; None if unknown."""
        last = self.metrics.get(LAST_ACCEPTED)
        return None if last is None else max(0.0, self.seconds - last)

    @property
    def last_accepted_at(self) -> datetime | None:
        """When the last callback was accepted; None before the first."""
        prefix = LAST_ACCEPTED + SEPARATOR
        of_sources = [seconds for name, seconds in self.metrics.items() if name.startswith(prefix)]
        return stored_time(max(of_sources) * 1000) if of_sources else None

    def last_times(self, handler: str) -> LastTimes:
        """Return when a handler last delivered, retried and gave up."""
        return last_times.parse_handler(self.metrics.get(name) for name in last_times.handler_names(handler))

    def deliveries_at(self, handler: str) -> dict[keys.DeliveryOutcome, int]:
        """Return how many events of all kinds had each outcome at a handler."""
        return {
            outcome: sum(self.counts.get(keys.handler_counter(handler, kind, outcome), 0) for kind in KINDS)
            for outcome in OUTCOMES
        }

    def unknown_statuses(self) -> dict[str, int]:
        """Return how many reports had a status that the specification does not have, by status, the most first.

        Those beyond the first MAX_UNKNOWN_STATUSES are counted together as the last, "other".
        """
        prefix = UNKNOWN_STATUS + SEPARATOR
        counted = {name.removeprefix(prefix): n for name, n in self.metrics.items() if name.startswith(prefix)}
        other = counted.pop(OTHER, 0)
        named = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        other += sum(number for _, number in named[MAX_UNKNOWN_STATUSES:])
        return {**dict(named[:MAX_UNKNOWN_STATUSES]), OTHER: other}

    def events_waiting(self, handler: str) -> int:
        """Return how many events wait for a handler, retries included."""
        at = self.deliveries_at(handler)
        return at["queued"] - sum(at[outcome] for outcome in audit.SETTLED_OUTCOMES)


def read_snapshot(connection: redis.Redis, level: Durability) -> Snapshot:
    """Read a snapshot; of a damaged value it has the key in `damaged`. Raises redis.RedisError."""
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
