"""What a callback costs Redis, in counts that need no clock, so that none of them gets worse unnoticed.

Each bound is some 5 % above what was measured when it was set; counts of round trips and fsyncs have more room, as the
kernel may deliver a request in two pieces. When a change makes a count smaller, lower its bound: the tests print what
they measure (`pytest -rP tests/integration/cost`). Raise a bound only for something that is worth it, and say in the
commit for what. `python -m benchmarks.cost` has the same counts under load.
"""

from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import backlog, bodies, redis_counts
from benchmarks.redis_counts import RedisCounts
from callbacks import ReportEvent, handler
from tests.integration.harness import Harness, open_harness
from tests.redis_server import RedisServer

# One callback of three reports alone, from its commit until one handler has settled it, by workers that started for it.
# Their start and end are not counted.
ALONE_COMMANDS: Final = 174
ALONE_ROUND_TRIPS: Final = 20
ALONE_FSYNCS: Final = 14
ALONE_FILE_BODIES: Final = 18.8

# A callback of 400 that were committed forty at a time, as load leaves them.
COMMANDS: Final = 1.55
ROUND_TRIPS: Final = 0.3
FSYNCS: Final = 0.15
FILE_BODIES: Final = 2.92
KEYS_LEFT: Final = 0.02

# What each further handler adds to one of these.
HANDLER_COMMANDS: Final = 1.35
HANDLER_FILE_BODIES: Final = 0.175

# Bytes of memory: of a callback that waits to be expanded, of an event that waits for a handler, of a remembered event.
WAITING_CALLBACK_BYTES: Final = 780
WAITING_EVENT_BYTES: Final = 353
REMEMBERED_EVENT_BYTES: Final = 65

CALLBACKS: Final = 400
PER_JOB: Final = 40
BODY_BYTES: Final = len(bodies.body(0))
_WARM_UP_FIRST: Final = 1_000_000


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="fsyncs are counted by what Linux says of a process's writes"
)


@handler(ReportEvent, batch=True)
def first(events: list[ReportEvent]) -> None:
    """Do nothing."""


@handler(ReportEvent, batch=True)
def second(events: list[ReportEvent]) -> None:
    """Do nothing."""


@handler(ReportEvent, batch=True)
def third(events: list[ReportEvent]) -> None:
    """Do nothing."""


def test_a_callback_alone(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, first) as harness:
        nothing, counts = settled(harness, 0), settled(harness, 1)
    alone = counts - nothing

    within("commands", alone.commands, ALONE_COMMANDS)
    within("round trips", alone.round_trips, ALONE_ROUND_TRIPS)
    within("fsyncs", alone.fsyncs, ALONE_FSYNCS)
    within("append-only file, bodies", alone.file_bytes / BODY_BYTES, ALONE_FILE_BODIES)


def test_a_callback_of_many(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, first) as harness:
        counts = settled(harness, CALLBACKS)

    within("commands", counts.commands / CALLBACKS, COMMANDS)
    within("round trips", counts.round_trips / CALLBACKS, ROUND_TRIPS)
    within("fsyncs", counts.fsyncs / CALLBACKS, FSYNCS)
    within("append-only file, bodies", counts.file_bytes / CALLBACKS / BODY_BYTES, FILE_BODIES)
    within("keys left", counts.keys / CALLBACKS, KEYS_LEFT)


def test_a_handler_more(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, first) as harness:
        one = settled(harness, CALLBACKS)
    with open_harness(redis_server.url, first, second, third) as harness:
        more = settled(harness, CALLBACKS, first_number=CALLBACKS) - one

    within("commands", more.commands / CALLBACKS / 2, HANDLER_COMMANDS)
    within("append-only file, bodies", more.file_bytes / CALLBACKS / 2 / BODY_BYTES, HANDLER_FILE_BODIES)


def test_the_memory_of_what_waits_and_of_what_is_remembered(redis_server: RedisServer) -> None:
    with open_harness(redis_server.url, first) as harness:
        settled(harness, 0)
        before = used_bytes(harness)
        commit(harness, CALLBACKS)
        waiting = used_bytes(harness) - before
        harness.expand()
        expanded = used_bytes(harness) - before
        harness.deliver(first)
        remembered = used_bytes(harness) - before

    events = CALLBACKS * bodies.REPORTS
    within("waiting callback", waiting / CALLBACKS, WAITING_CALLBACK_BYTES)
    within("waiting event", (expanded - remembered) / events, WAITING_EVENT_BYTES)
    within("remembered event", remembered / events, REMEMBERED_EVENT_BYTES)


def settled(harness: Harness, callbacks: int, *, first_number: int = 0) -> RedisCounts:
    """Return what these callbacks took, with the workers' start and end, after one for which scripts were loaded."""
    commit(harness, 1, first_number=_WARM_UP_FIRST + first_number + callbacks)
    work(harness)
    before = redis_counts.read(harness.connection)
    commit(harness, callbacks, first_number=first_number)
    work(harness)
    counts = redis_counts.read(harness.connection) - before
    assert harness.audit().pending == 0
    return counts


def commit(harness: Harness, callbacks: int, *, first_number: int = 0) -> None:
    """Commit callbacks, up to forty at a time."""
    for number in range(first_number, first_number + callbacks, PER_JOB):
        backlog.fill(harness.connection, min(PER_JOB, first_number + callbacks - number), per_job=PER_JOB, first=number)


def work(harness: Harness) -> None:
    harness.expand()
    for function in (first, second, third)[: len(harness.handlers)]:
        harness.deliver(function)


def used_bytes(harness: Harness) -> int:
    """Return what all keys and their expiry take, as Redis computes it: what it has allocated varies.

    Without the delivery log: it takes what CALLBACKS_DELIVERY_LOG_BYTES allows, whatever waits or is remembered.
    """
    redis: Any = harness.connection
    expiry = redis.memory_stats()["db.0"]["overhead.hashtable.expires"]
    sizes: list[int] = [
        redis.memory_usage(key, samples=0) for key in redis.scan_iter(count=1000) if b"cb:deliveries" not in key
    ]
    return sum(sizes) + int(expiry)


def within(what: str, measured: float, bound: float) -> None:
    print(f"{what}: {measured:.4g}, bound {bound}")  # noqa: T201
    assert measured <= bound, f"{what}: {measured:.4g} a callback, the bound is {bound}"
