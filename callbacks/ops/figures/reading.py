"""What a scrape reads of Redis, in three round trips however much waits there. Changes nothing."""

import math
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import durability, keys, queues
from shared import recent_rate as last_hour
from shared.durability import Finding
from shared.failing_loops import FailingLoop, failing_in
from shared.metrics_push import STATE_SECONDS
from shared.recent_rate import LastHour
from shared.settings import Durability

# More handlers, or processes, than any deployment has: beyond it they are not shown, so that series do not multiply.
MOST_HANDLERS: Final = 100
_MOST_PROCESSES: Final = 1000
KINDS: Final[tuple[keys.CountedKind, ...]] = ("report", "reply", "unknown")
OUTCOMES: Final[tuple[keys.DeliveryOutcome, ...]] = ("queued", "delivered", "filtered", "dead", "dropped")


class Spool(Struct, frozen=True):
    """A web process's spool, as it told: "none", "drained", "filling", "full" or "failing", and how much is in it."""

    state: str
    callbacks: int
    size_bytes: int
    limit_bytes: int


class Queue(Struct, frozen=True, kw_only=True):
    """A queue: jobs waiting, running and to be tried later, the age of the first that waits, workers that live.

    `paused_by` is who lets it wait: its "handler", whose target is away, an "operator", "memory" (it fails, and
    Redis has no room for its retries), or "".
    """

    name: str
    paused_by: str
    waiting: int
    running: int
    later: int
    oldest_seconds: float
    workers: int


class Reading(Struct, frozen=True, kw_only=True):
    """All of it, at the time `seconds` of Redis."""

    seconds: float
    last_hour: LastHour
    counts: dict[str, int]
    figures: dict[str, int]
    findings: tuple[Finding, ...]
    used_bytes: int
    most_bytes: int
    quarantined: int
    dead: dict[str, int]
    queues: tuple[Queue, ...]
    spools: tuple[Spool, ...]
    failing: tuple[FailingLoop, ...] = ()

    @property
    def jobs(self) -> int:
        """How many jobs there are, whatever their state: what an audit has to read."""
        return sum(queue.waiting + queue.running + queue.later for queue in self.queues)

    def at_handler(self, handler: str) -> dict[keys.DeliveryOutcome, int]:
        """Give how many events had each outcome at a handler, of every kind."""
        return {
            outcome: sum(self.counts.get(keys.handler_counter(handler, kind, outcome), 0) for kind in KINDS)
            for outcome in OUTCOMES
        }

    def events_waiting(self, handler: str) -> int:
        """Give how many events a handler has yet to be done with."""
        at = self.at_handler(handler)
        return at["queued"] - at["delivered"] - at["dead"] - at["dropped"]


def read(connection: redis.Redis, level: Durability) -> Reading:
    """Read it. Raises redis.RedisError."""
    counts, figures, quarantined, processes, hour, (seconds, microseconds), *answers = _asked(connection)
    info: dict[str, Any] = {}
    for answer in answers:
        info |= answer if isinstance(answer, dict) else {}
    numbers = _numbers(counts)
    handlers = keys.handler_names(numbers)[:MOST_HANDLERS]
    names = [queues.EXPAND, *map(queues.delivery_queue, handlers)]
    alive = [as_text(name) for name, last in processes if seconds - last <= STATE_SECONDS]
    with connection.pipeline(transaction=False) as pipe:
        for handler in handlers:
            pipe.zcard(keys.dead(handler))
        for process in alive:
            pipe.hget(keys.figures_of(process), "state")
        for name in names:
            pipe.llen(keys.rq_queue(name))
            pipe.llen(keys.rq_intermediate(name))
            pipe.zcard(keys.rq_started(name))
            pipe.zcard(keys.rq_scheduled(name))
            pipe.lindex(keys.rq_queue(name), 0)
            pipe.smembers(keys.rq_workers(name))
        for handler in handlers:
            pipe.hget(keys.paused(handler), "by")
        replies = iter(pipe.execute())
    dead = {handler: int(next(replies)) for handler in handlers}
    states = [orjson.loads(state) for state in (next(replies) for _ in alive) if state]
    places = {name: [next(replies) for _ in range(6)] for name in names}
    paused = {queues.delivery_queue(handler): as_text(next(replies) or b"") for handler in handlers}
    now_seconds = seconds + microseconds / 1_000_000
    findings = durability.evaluate(level, answers)
    if durability.is_replica(findings):
        connection.connection_pool.disconnect()  # the address may lead to the new primary by now
    return Reading(
        seconds=now_seconds,
        last_hour=last_hour.read(hour, now_seconds=now_seconds),
        counts=numbers,
        figures=_numbers(figures),
        findings=findings,
        used_bytes=int(info.get("used_memory", 0)),
        most_bytes=int(info.get("maxmemory", 0)),
        quarantined=int(quarantined),
        dead=dead,
        queues=tuple(_queues(connection, places, paused, now_seconds=time.time())),
        spools=tuple(_spools(states)),
        failing=tuple(found for state in states for found in failing_in(state)),
    )


def _asked(connection: redis.Redis) -> Sequence[Any]:
    with connection.pipeline(transaction=False) as pipe:
        pipe.hgetall(keys.COUNTS)
        pipe.hgetall(keys.FIGURES)
        pipe.zcard(keys.QUARANTINE)
        pipe.zrange(keys.FIGURES_PROCESSES, -_MOST_PROCESSES, -1, withscores=True)
        pipe.hgetall(keys.FIGURES_HOUR)
        pipe.time()
        durability.query(pipe)
        # CONFIG and WAITAOF may be forbidden: that is for `durability` to judge.
        replies: list[Any] = pipe.execute(raise_on_error=False)
    for reply in replies[:6]:
        if isinstance(reply, redis.RedisError):
            raise reply
    return replies


def _queues(
    connection: redis.Redis, places: dict[str, list[Any]], paused: dict[str, str], *, now_seconds: float
) -> Iterable[Queue]:
    """Learn when the first waiting jobs were made, and who lives: a dead worker's hash expires, its name may stay."""
    with connection.pipeline(transaction=False) as pipe:
        for _, _, _, _, first, workers in places.values():
            pipe.hget(keys.job(as_text(first or b"none")), "created_at")
            # EXISTS of no key at all is an error.
            pipe.exists("cb:none", *workers)
        replies = iter(pipe.execute())
    for name, (waiting, popped, running, later, _, _) in places.items():
        made = next(replies)
        yield Queue(
            name=name,
            waiting=waiting + popped,
            running=running,
            later=later,
            oldest_seconds=max(0.0, now_seconds - _unix_seconds(as_text(made))) if made else 0.0,
            workers=next(replies),
            paused_by=paused.get(name, ""),
        )


def _unix_seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return math.inf  # set by hand: a job of no age


def _spools(states: Iterable[dict[str, Any]]) -> Iterable[Spool]:
    for told in states:
        if "state" in told:  # a worker's state is only what fails in it
            yield Spool(str(told["state"]), int(told["callbacks"]), int(told["bytes"]), int(told["limit_bytes"]))


def _numbers(fields: dict[bytes, bytes]) -> dict[str, int]:
    return {as_text(name): int(number) for name, number in fields.items()}
