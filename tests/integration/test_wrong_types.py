"""A key of ours has another type, by somebody's mistake: a step changes nothing, and goes on once the key is right.

Redis rolls nothing back: what fails half-way through a script would leave marks without events, or a job nowhere.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared import keys, queues
from tests.integration.told import at_handler, fail_at, other, single, told
from tests.integration.workbench import Bench, _quick_server, bench, quick_redis, record, reply, status, statuses  # noqa: F401
from tests.redis_server import RedisServer
from workers.runtime import job_transitions

QUARANTINED = status({"no": "record"})


@pytest.fixture
def b(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:  # noqa: F811
    told.__init__()  # type: ignore[misc]
    monkeypatch.setattr(job_transitions, "MAX_WAIT_SECONDS", 0)
    with bench(quick_redis.url, single, other) as made:
        yield made


def marks(b: Bench) -> int:
    return sum(1 for _ in b.connection.scan_iter(f"{keys.SEEN_PREFIX}*"))


def spoil(b: Bench, key: str) -> None:
    """Give a key another type."""
    b.connection.delete(key)
    if key.endswith(":bytes"):
        b.connection.lpush(key, "x")
    else:
        b.connection.set(key, "x")


def promote(b: Bench) -> None:
    """Have the jobs that wait for their next run wait in their queues."""
    keeper = b.maintenance(single, other)
    keeper.tick([])
    keeper.close()


@pytest.mark.parametrize(
    "key",
    [
        keys.rq_queue("deliver-single"),
        keys.rq_queue("deliver-other"),
        keys.COUNTS,
        keys.RQ_QUEUES,
        keys.QUARANTINE,
        keys.failures_bytes(keys.QUARANTINE),
    ],
)
def test_a_fan_out_that_cannot_be_done_whole_marks_nothing_and_sets_nothing_aside(b: Bench, key: str) -> None:
    b.keep(status(record("1"), record("2")), reply("m1", "q1"))
    kept = b.connection.dump(key)
    b.keep(QUARANTINED)
    counts = b.connection.dump(keys.COUNTS)
    spoil(b, key)

    for _ in range(3):
        b.expand()
        promote(b)

    assert marks(b) == 0
    b.connection.delete(key)
    if key == keys.COUNTS:
        b.connection.restore(key, 0, counts)
    elif kept is not None:
        b.connection.restore(key, 0, kept)
    promote(b)
    b.expand()
    b.deliver(single)
    b.deliver(other)
    assert at_handler(b, single) == at_handler(b, other) == (2, 0, 0, 0)
    sums = b.audit()
    assert (sums.unique, sums.duplicate, sums.quarantined, sums.balances) == (3, 0, 1, True)
    assert b.leftovers() == set()


def test_a_counter_that_is_no_number_stops_a_fan_out_before_its_first_mark(b: Bench) -> None:
    b.keep(status(record("1")))
    b.connection.hset(keys.COUNTS, "report.queued:other", "many")

    b.expand()

    assert marks(b) == 0
    b.connection.hdel(keys.COUNTS, "report.queued:other")
    promote(b)
    b.expand()
    assert b.audit().balances
    assert (b.audit().unique, b.audit().duplicate) == (1, 0)


@pytest.mark.parametrize(
    "key",
    [
        keys.dead("single"),
        keys.failures_bytes(keys.dead("single")),
        keys.rq_scheduled("deliver-other"),
        keys.COUNTS,
    ],
)
def test_a_settlement_that_cannot_be_done_whole_is_done_later_without_a_second_call(b: Bench, key: str) -> None:
    b.keep(*statuses(["1", "2", "3"]))
    b.expand()
    kept = b.connection.dump(key)
    told.act = lambda _event: spoil(b, key) if told.called == ["1"] else None

    b.deliver(single)

    b.connection.delete(key)
    if kept is not None:
        b.connection.restore(key, 0, kept)
    promote(b)
    b.deliver(single)
    b.deliver(other)
    assert sorted(told.called) == ["1", "2", "3"]
    assert at_handler(b, single) == at_handler(b, other) == (3, 0, 0, 0)
    assert b.audit().balances


def popped(b: Bench) -> str:
    b.keep(status(record("1")))
    (job_id,) = b.waiting(queues.EXPAND)
    b.connection.lmove(keys.rq_queue(queues.EXPAND), keys.rq_intermediate(queues.EXPAND), "LEFT", "RIGHT")
    return job_id


def returned(b: Bench, job_id: str) -> None:
    job_transitions.JobTransitions(queues.EXPAND, connection=b.connection).requeue_orphan(job_id)


def started(b: Bench, job_id: str) -> None:
    moves = job_transitions.JobTransitions(queues.EXPAND, connection=b.connection)
    moves.start(job_id, [("HSET", keys.job(job_id), "status", "started"), ("ZADD", keys.rq_queue("expand"), 1, "x")])


@pytest.mark.parametrize("step", [returned, started])
def test_a_job_that_cannot_be_moved_stays_where_it_is(b: Bench, step: Callable[[Bench, str], Any]) -> None:
    job_id = popped(b)
    spoil(b, keys.rq_queue(queues.EXPAND))

    with pytest.raises(Exception, match="WRONGTYPE"):
        step(b, job_id)

    assert b.connection.lrange(keys.rq_intermediate(queues.EXPAND), 0, -1) == [job_id.encode()]


def test_a_retry_whose_queue_has_another_type_waits_on(b: Bench) -> None:
    b.keep(*statuses(["1"]))
    b.expand()
    told.act = fail_at("1")
    b.deliver(single)
    b.connection.zadd(keys.rq_scheduled("deliver-single"), dict.fromkeys(scheduled(b), 1))
    spoil(b, keys.rq_queue("deliver-single"))

    promote(b)

    assert len(scheduled(b)) == 1


def scheduled(b: Bench) -> list[bytes]:
    found: list[bytes] = b.connection.zrange(keys.rq_scheduled("deliver-single"), 0, -1)
    return found
