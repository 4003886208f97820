"""A key of ours has another type, by somebody's mistake: a step changes nothing, and goes on once the key is right.

Redis rolls nothing back: what fails half-way through a script would leave marks without events, or a job nowhere.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rq.executions import Execution

from shared import keys, queues
from tests.integration.harness import HandlerTotals, Harness, open_harness, record, reply, status, statuses
from tests.integration.scripted_handlers import fail_for, other, script, single
from tests.redis_server import RedisServer
from workers.runtime import job_transitions

QUARANTINED = status({"no": "record"})


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    script.__init__()  # type: ignore[misc]
    monkeypatch.setattr(job_transitions, "MAX_WAIT_SECONDS", 0)
    with open_harness(quick_redis.url, single, other) as made:
        yield made


def marks(harness: Harness) -> int:
    return len(harness.marks())


def spoil(harness: Harness, key: str) -> None:
    """Write another type to a key."""
    harness.connection.delete(key)
    if key.endswith(":bytes"):
        harness.connection.lpush(key, "x")
    else:
        harness.connection.set(key, "x")


def promote(harness: Harness) -> None:
    """Have the jobs that wait for their next run wait in their queues."""
    keeper = harness.maintenance(single, other)
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
        keys.SEEN,
    ],
)
def test_a_fan_out_that_cannot_be_done_whole_marks_nothing_and_sets_nothing_aside(harness: Harness, key: str) -> None:
    harness.accept(status(record("1"), record("2")), reply("m1", "q1"))
    kept = harness.connection.dump(key)
    harness.accept(QUARANTINED)
    counts = harness.connection.dump(keys.COUNTS)
    spoil(harness, key)

    for _ in range(3):
        harness.expand()
        promote(harness)

    assert marks(harness) == 0
    harness.connection.delete(key)
    if key == keys.COUNTS:
        harness.connection.restore(key, 0, counts)
    elif kept is not None:
        harness.connection.restore(key, 0, kept)
    promote(harness)
    harness.expand()
    harness.deliver(single)
    harness.deliver(other)
    assert harness.totals(single) == harness.totals(other) == HandlerTotals(delivered=2)
    sums = harness.audit()
    assert (sums.unique, sums.duplicate, sums.quarantined, sums.balances) == (3, 0, 1, True)
    assert harness.leftover_keys() == set()


def test_a_counter_that_is_no_number_stops_a_fan_out_before_its_first_mark(harness: Harness) -> None:
    harness.accept(status(record("1")))
    harness.connection.hset(keys.COUNTS, "report.queued:other", "many")

    harness.expand()

    assert marks(harness) == 0
    harness.connection.hdel(keys.COUNTS, "report.queued:other")
    promote(harness)
    harness.expand()
    assert harness.audit().balances
    assert (harness.audit().unique, harness.audit().duplicate) == (1, 0)


@pytest.mark.parametrize(
    "key",
    [
        keys.dead("single"),
        keys.failures_bytes(keys.dead("single")),
        keys.rq_scheduled("deliver-other"),
        keys.COUNTS,
    ],
)
def test_a_settlement_that_cannot_be_done_whole_is_done_later_without_a_second_call(harness: Harness, key: str) -> None:
    harness.accept(*statuses(["1", "2", "3"]))
    harness.expand()
    kept = harness.connection.dump(key)
    script.act = lambda _event: spoil(harness, key) if script.called == ["1"] else None

    harness.deliver(single)

    harness.connection.delete(key)
    if kept is not None:
        harness.connection.restore(key, 0, kept)
    promote(harness)
    harness.deliver(single)
    harness.deliver(other)
    assert sorted(script.called) == ["1", "2", "3"]
    assert harness.totals(single) == harness.totals(other) == HandlerTotals(delivered=3)
    assert harness.audit().balances


def popped(harness: Harness) -> str:
    harness.accept(status(record("1")))
    (job_id,) = harness.waiting_jobs(queues.EXPAND)
    harness.connection.lmove(keys.rq_queue(queues.EXPAND), keys.rq_intermediate(queues.EXPAND), "LEFT", "RIGHT")
    return job_id


def returned(harness: Harness, job_id: str) -> None:
    job_transitions.JobTransitions(queues.EXPAND, connection=harness.connection).requeue_orphan(job_id)


def started(harness: Harness, job_id: str) -> None:
    moves = job_transitions.JobTransitions(queues.EXPAND, connection=harness.connection)
    run = Execution(id="run", job_id=job_id, connection=harness.connection)
    commands = [("HSET", keys.job(job_id), "status", "started"), ("ZADD", keys.rq_queue("expand"), 1, "x")]
    moves.start(run, commands, lease_seconds=45)


@pytest.mark.parametrize("step", [returned, started])
def test_a_job_that_cannot_be_moved_stays_where_it_is(harness: Harness, step: Callable[[Harness, str], Any]) -> None:
    job_id = popped(harness)
    spoil(harness, keys.rq_queue(queues.EXPAND))

    with pytest.raises(Exception, match="WRONGTYPE"):
        step(harness, job_id)

    assert harness.connection.lrange(keys.rq_intermediate(queues.EXPAND), 0, -1) == [job_id.encode()]


def test_a_retry_whose_queue_has_another_type_waits_on(harness: Harness) -> None:
    harness.accept(*statuses(["1"]))
    harness.expand()
    script.act = fail_for("1")
    harness.deliver(single)
    harness.connection.zadd(keys.rq_scheduled("deliver-single"), dict.fromkeys(scheduled(harness), 1))
    spoil(harness, keys.rq_queue("deliver-single"))

    promote(harness)

    assert len(scheduled(harness)) == 1


def scheduled(harness: Harness) -> list[bytes]:
    found: list[bytes] = harness.connection.zrange(keys.rq_scheduled("deliver-single"), 0, -1)
    return found
