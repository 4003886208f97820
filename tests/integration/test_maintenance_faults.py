"""Maintenance over a Redis that holds what should not be there: each task, and each item of it, is by itself."""

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE

from shared import connections, keys, queues
from tests.integration.told import brought, other, single
from tests.integration.workbench import Bench, _quick_server, bench, quick_redis, worker_name  # noqa: F401
from tests.redis_server import RedisServer
from workers.expand.subscriptions import SubscriptionMaintenance
from workers.failures.retention import FailureTrimmer
from workers.filters import Filters
from workers.runtime.maintenance import Maintenance

QUEUE = queues.delivery_queue("single")
OTHER = queues.delivery_queue("other")
# No run has such a name: nothing before a colon and nothing behind it, one too many, and what is not UTF-8.
BAD = (b"no-run", b"a:b:c", b"\xff\xfe:\xff")


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    with bench(quick_redis.url, single, other) as made:
        yield made


@pytest.fixture
def keeper(b: Bench) -> Iterator[Maintenance]:
    """Give one for which everything is due."""
    connection = connections.connect(b.url)
    failure_trimmer = FailureTrimmer(connection=connection, quarantine_max_bytes=1, dead_letter_max_bytes=1)
    with closing(Maintenance([QUEUE, OTHER], connection=connection, failure_trimmer=failure_trimmer)) as made:
        yield made


def tick(keeper: Maintenance, *workers: str) -> None:
    """Do all of it, whatever the time."""
    keeper._check_at = keeper._expire_at = keeper._renew_at = keeper._reap_at = 0.0
    if keeper._failure_trimmer is not None:
        keeper._failure_trimmer._check_at = 0.0
    keeper.tick(workers)


def run(b: Bench, queue: str, name: str) -> str:
    """Have a worker begin the job that waits first, and say no more of it; return the run as registries name it."""
    worker: Any = b.worker(queue, name=name)
    runs: list[str] = []
    worker.perform_job = lambda _job, _queue, execution: runs.append(execution.composite_key)
    worker.execute_job(*worker.dequeue_job_and_maintain_ttl(None))
    return runs[0]


def test_what_is_not_a_run_among_a_dead_workers_runs_keeps_none_of_its_jobs(
    b: Bench, keeper: Maintenance, caplog: pytest.LogCaptureFixture
) -> None:
    brought(b, "1")
    name = worker_name(QUEUE)
    run(b, QUEUE, name)
    b.connection.sadd(WORKER_EXECUTIONS_KEY_TEMPLATE.format(name), *BAD)

    tick(keeper, name)
    assert b.waiting(QUEUE) == []
    keeper.record_exit(name)
    tick(keeper)

    assert len(b.waiting(QUEUE)) == 1
    assert not b.connection.exists(WORKER_EXECUTIONS_KEY_TEMPLATE.format(name))
    assert keeper.background.failing() == {}
    lines = [record.getMessage() for record in caplog.records if "execution_unreadable" in record.getMessage()]
    assert len(lines) == len(BAD), "each is logged once"


def test_what_is_not_a_run_among_those_whose_lease_ended_keeps_none_of_the_others(
    b: Bench, keeper: Maintenance, caplog: pytest.LogCaptureFixture
) -> None:
    for queue in (QUEUE, OTHER):
        b.connection.zadd(keys.rq_started(queue), dict.fromkeys(BAD, 0))
    brought(b, "1")
    runs = {queue: run(b, queue, worker_name(queue)) for queue in (QUEUE, OTHER)}
    for queue, one in runs.items():
        b.connection.zadd(keys.rq_started(queue), {one: 1})

    tick(keeper)
    assert keeper.background.failing() == {}, "once may be chance"
    tick(keeper)

    assert [len(b.waiting(queue)) for queue in (QUEUE, OTHER)] == [1, 1]
    assert keeper.background.failing() == {"maintenance_expired_leases": "ValueError"}
    (line,) = (record.getMessage() for record in caplog.records if "loop_failed" in record.getMessage())
    assert line.startswith("action=loop_failed loop=maintenance_expired_leases count=1 ExceptionGroup")
    assert "parse_execution" in line, "the places of what raised it are there"


def test_a_job_of_another_type_keeps_no_other_from_its_queue_when_a_worker_died(b: Bench, keeper: Maintenance) -> None:
    brought(b, "1")
    brought(b, "2")
    first, second = worker_name(QUEUE), worker_name(QUEUE)
    broken = run(b, QUEUE, first).partition(":")[0]
    run(b, QUEUE, second)
    stored = b.connection.dump(keys.job(broken))
    b.connection.set(keys.job(broken), "no hash")
    keeper.record_exit(second)
    keeper.record_exit(first)

    tick(keeper)
    assert len(b.waiting(QUEUE)) == 1
    tick(keeper)
    assert keeper.background.failing() == {"maintenance_dead_workers": "ResponseError"}

    b.connection.restore(keys.job(broken), 0, stored, replace=True)
    tick(keeper)
    assert keeper.background.failing() == {}, "it is tried again"
    assert len(b.waiting(QUEUE)) == 2


def test_a_queue_of_another_type_costs_no_job_that_a_dead_worker_had_or_had_popped(
    b: Bench, keeper: Maintenance
) -> None:
    brought(b, "1")
    brought(b, "2")
    name = worker_name(QUEUE)
    run(b, QUEUE, name)
    b.connection.lmove(keys.rq_queue(QUEUE), keys.rq_intermediate(QUEUE), "LEFT", "RIGHT")
    b.connection.set(keys.rq_queue(QUEUE), "no list")
    keeper.record_exit(name)

    for _ in range(3):
        tick(keeper)
    assert keeper.background.failing().keys() == {"maintenance_dead_workers", "maintenance_orphans"}

    b.connection.delete(keys.rq_queue(QUEUE))
    for _ in range(2):
        tick(keeper)
    assert len(b.waiting(QUEUE)) == 2
    assert keeper.background.failing() == {}


def test_a_scheduled_job_of_another_type_keeps_no_other_from_its_queue(b: Bench, keeper: Maintenance) -> None:
    brought(b, "1")
    (job_id,) = b.waiting(QUEUE)
    b.connection.lpop(keys.rq_queue(QUEUE))
    b.connection.set(keys.job("broken"), "no hash")
    b.connection.zadd(keys.rq_scheduled(QUEUE), {"broken": 1, b"\xff": 2, job_id: 3})

    tick(keeper)

    assert b.waiting(QUEUE) == [job_id]
    assert keeper.background.failing() == {}


def test_a_queue_of_another_type_costs_no_retry_and_keeps_no_other_queue_waiting(b: Bench, keeper: Maintenance) -> None:
    brought(b, "1")
    jobs = {queue: b.waiting(queue)[0] for queue in (QUEUE, OTHER)}
    for queue, job_id in jobs.items():
        b.connection.lpop(keys.rq_queue(queue))
        b.connection.zadd(keys.rq_scheduled(queue), {job_id: 1})
    b.connection.set(keys.rq_queue(OTHER), "no list")  # the first of the two

    tick(keeper)
    tick(keeper)

    assert b.waiting(QUEUE) == [jobs[QUEUE]]
    assert b.connection.zscore(keys.rq_scheduled(OTHER), jobs[OTHER]) == 1, "it is still to come"
    assert keeper.background.failing() == {"maintenance_due_retries": "ResponseError"}
    b.connection.delete(keys.rq_queue(OTHER))
    tick(keeper)
    assert b.waiting(OTHER) == [jobs[OTHER]]
    assert keeper.background.failing() == {}


def test_a_popped_job_whose_id_is_not_text_keeps_no_other_from_its_queue(b: Bench, keeper: Maintenance) -> None:
    brought(b, "1")
    b.connection.lmove(keys.rq_queue(QUEUE), keys.rq_intermediate(QUEUE), "LEFT", "RIGHT")
    b.connection.rpush(keys.rq_intermediate(QUEUE), b"\xff")

    for _ in range(4):
        tick(keeper)

    assert len(b.waiting(QUEUE)) == 1
    assert keeper.background.failing() == {"maintenance_orphans": "UnicodeDecodeError"}


def test_a_shelf_that_cannot_be_trimmed_and_a_bad_worker_keep_no_other_task_waiting(b: Bench) -> None:
    brought(b, "1")
    b.connection.hset(keys.COUNTS, keys.handler_counter("single", "report", "dead"), 0)
    b.connection.set(keys.QUARANTINE, "no sorted set")
    b.connection.sadd("rq:workers:expand", "rq:worker:old")
    b.connection.hset("rq:worker:old", "birth", "yesterday, or so")
    connection = connections.connect(b.url)
    failure_trimmer = FailureTrimmer(connection=connection, quarantine_max_bytes=1, dead_letter_max_bytes=1)
    known = {"single": [Filters(name="single", kinds=frozenset(("report",)))]}
    keeping = SubscriptionMaintenance(
        ["expand", QUEUE], filters=known, connection=connection, failure_trimmer=failure_trimmer
    )
    (job_id,) = b.waiting(QUEUE)
    b.connection.lpop(keys.rq_queue(QUEUE))
    b.connection.zadd(keys.rq_scheduled(QUEUE), {job_id: 1})

    with closing(keeping):
        for _ in range(2):
            keeping._writer._check_at = 0.0
            tick(keeping)

        assert b.waiting(QUEUE) == [job_id]
        assert keeping.background.failing() == {
            "maintenance_trimming": "ResponseError",
            "maintenance_subscriptions": "ValueError",
        }
    b.connection.delete(keys.QUARANTINE)


def test_leases_end_for_nobody_while_redis_takes_no_renewal(b: Bench, keeper: Maintenance) -> None:
    """Workers of other machines live too, and could not renew theirs either."""
    brought(b, "1")
    name, away = worker_name(QUEUE), worker_name(OTHER)
    one, others = run(b, QUEUE, name), run(b, OTHER, away)
    b.connection.zadd(keys.rq_started(OTHER), {others: 1})
    b.connection.zadd(keys.rq_started(QUEUE), {one: time.time() + 5})
    b.connection.config_set("min-replicas-to-write", 3)
    try:
        tick(keeper, name)
    finally:
        b.connection.config_set("min-replicas-to-write", 0)
    keeper.tick([name])

    assert b.waiting(OTHER) == []
    assert b.connection.zscore(keys.rq_started(QUEUE), one) > time.time() + 10, "renewed as soon as that is possible"


def test_what_maintenance_logs_is_an_error(b: Bench, keeper: Maintenance, caplog: pytest.LogCaptureFixture) -> None:
    b.connection.zadd(keys.rq_started(QUEUE), {b"no-run": 0})

    tick(keeper)

    assert {record.levelno for record in caplog.records if "loop_failed" in record.getMessage()} == {logging.ERROR}
