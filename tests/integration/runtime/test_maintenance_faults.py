"""Maintenance over a Redis that holds what should not be there: each task, and each item of it, is by itself."""

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE

from shared import connections, keys, queues
from tests.integration.harness import Harness, open_harness, worker_name
from tests.integration.scripted_handlers import accept_and_expand, other, single
from tests.redis_server import RedisServer
from workers.expand import subscriptions
from workers.failures.retention import FailureTrimmer
from workers.filters import Filters
from workers.runtime.maintenance import Maintenance

QUEUE = queues.delivery_queue("single")
OTHER = queues.delivery_queue("other")
# No run has such a name: nothing before a colon and nothing behind it, one too many, and what is not UTF-8.
BAD = (b"no-run", b"a:b:c", b"\xff\xfe:\xff")


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, single, other) as made:
        yield made


@pytest.fixture
def maintenance(harness: Harness) -> Iterator[Maintenance]:
    """Return one for which everything is due."""
    connection = connections.connect(harness.url)
    failure_trimmer = FailureTrimmer(connection=connection, quarantine_max_bytes=1, dead_letter_max_bytes=1)
    with closing(
        Maintenance([QUEUE, OTHER], connection=connection, tasks={"maintenance_trimming": failure_trimmer})
    ) as made:
        yield made


def tick(maintenance: Maintenance, *workers: str) -> None:
    """Do all of it, whatever the time."""
    maintenance._check_at = maintenance._expire_at = maintenance._renew_at = maintenance._reap_at = 0.0
    for task in maintenance._tasks.values():
        vars(task).update({name: 0.0 for name in vars(task) if name == "_check_at"})
    maintenance.tick(workers)


def run(harness: Harness, queue: str, name: str) -> str:
    """Have a worker begin the job that waits first, and say no more of it; return the run as registries name it."""
    worker: Any = harness.worker(queue, name=name)
    runs: list[str] = []
    worker.perform_job = lambda _job, _queue, execution: runs.append(execution.composite_key)
    worker.execute_job(*worker.dequeue_job_and_maintain_ttl(None))
    return runs[0]


def test_what_is_not_a_run_among_a_dead_workers_runs_keeps_none_of_its_jobs(
    harness: Harness, maintenance: Maintenance, caplog: pytest.LogCaptureFixture
) -> None:
    accept_and_expand(harness, "1")
    name = worker_name(QUEUE)
    run(harness, QUEUE, name)
    harness.connection.sadd(WORKER_EXECUTIONS_KEY_TEMPLATE.format(name), *BAD)

    tick(maintenance, name)
    assert harness.waiting_jobs(QUEUE) == []
    maintenance.record_exit(name)
    tick(maintenance)

    assert len(harness.waiting_jobs(QUEUE)) == 1
    assert not harness.connection.exists(WORKER_EXECUTIONS_KEY_TEMPLATE.format(name))
    assert maintenance.background.failing() == {}
    lines = [record.getMessage() for record in caplog.records if "execution_unreadable" in record.getMessage()]
    assert len(lines) == len(BAD), "each is logged once"


def test_what_is_not_a_run_among_those_whose_lease_ended_keeps_none_of_the_others(
    harness: Harness, maintenance: Maintenance, caplog: pytest.LogCaptureFixture
) -> None:
    for queue in (QUEUE, OTHER):
        harness.connection.zadd(keys.rq_started(queue), dict.fromkeys(BAD, 0))
    accept_and_expand(harness, "1")
    runs = {queue: run(harness, queue, worker_name(queue)) for queue in (QUEUE, OTHER)}
    for queue, one in runs.items():
        harness.connection.zadd(keys.rq_started(queue), {one: 1})

    tick(maintenance)
    assert maintenance.background.failing() == {}, "once may be chance"
    tick(maintenance)

    assert [len(harness.waiting_jobs(queue)) for queue in (QUEUE, OTHER)] == [1, 1]
    assert maintenance.background.failing() == {"maintenance_expired_leases": "ValueError"}
    (line,) = (record.getMessage() for record in caplog.records if "loop_failed" in record.getMessage())
    assert line.startswith("action=loop_failed loop=maintenance_expired_leases count=1 error=ValueError")
    assert "parse_execution" in line, "the places of what raised it are there"


def test_a_job_of_another_type_keeps_no_other_from_its_queue_when_a_worker_died(
    harness: Harness, maintenance: Maintenance
) -> None:
    accept_and_expand(harness, "1")
    accept_and_expand(harness, "2")
    first, second = worker_name(QUEUE), worker_name(QUEUE)
    broken = run(harness, QUEUE, first).partition(":")[0]
    run(harness, QUEUE, second)
    stored = harness.connection.dump(keys.job(broken))
    harness.connection.set(keys.job(broken), "no hash")
    maintenance.record_exit(second)
    maintenance.record_exit(first)

    tick(maintenance)
    assert len(harness.waiting_jobs(QUEUE)) == 1
    tick(maintenance)
    assert maintenance.background.failing() == {"maintenance_dead_workers": "ResponseError"}

    harness.connection.restore(keys.job(broken), 0, stored, replace=True)
    tick(maintenance)
    assert maintenance.background.failing() == {}, "it is tried again"
    assert len(harness.waiting_jobs(QUEUE)) == 2


def test_a_queue_of_another_type_costs_no_job_that_a_dead_worker_had_or_had_popped(
    harness: Harness, maintenance: Maintenance
) -> None:
    accept_and_expand(harness, "1")
    accept_and_expand(harness, "2")
    name = worker_name(QUEUE)
    run(harness, QUEUE, name)
    harness.connection.lmove(keys.rq_queue(QUEUE), keys.rq_intermediate(QUEUE), "LEFT", "RIGHT")
    harness.connection.set(keys.rq_queue(QUEUE), "no list")
    maintenance.record_exit(name)

    for _ in range(3):
        tick(maintenance)
    assert maintenance.background.failing().keys() == {"maintenance_dead_workers", "maintenance_orphans"}

    harness.connection.delete(keys.rq_queue(QUEUE))
    for _ in range(2):
        tick(maintenance)
    assert len(harness.waiting_jobs(QUEUE)) == 2
    assert maintenance.background.failing() == {}


def test_a_scheduled_job_of_another_type_keeps_no_other_from_its_queue(
    harness: Harness, maintenance: Maintenance
) -> None:
    accept_and_expand(harness, "1")
    (job_id,) = harness.waiting_jobs(QUEUE)
    harness.connection.lpop(keys.rq_queue(QUEUE))
    harness.connection.set(keys.job("broken"), "no hash")
    harness.connection.zadd(keys.rq_scheduled(QUEUE), {"broken": 1, b"\xff": 2, job_id: 3})

    tick(maintenance)

    assert harness.waiting_jobs(QUEUE) == [job_id]
    assert maintenance.background.failing() == {}


def test_a_queue_of_another_type_costs_no_retry_and_keeps_no_other_queue_waiting(
    harness: Harness, maintenance: Maintenance
) -> None:
    accept_and_expand(harness, "1")
    jobs = {queue: harness.waiting_jobs(queue)[0] for queue in (QUEUE, OTHER)}
    for queue, job_id in jobs.items():
        harness.connection.lpop(keys.rq_queue(queue))
        harness.connection.zadd(keys.rq_scheduled(queue), {job_id: 1})
    harness.connection.set(keys.rq_queue(OTHER), "no list")  # the first of the two

    tick(maintenance)
    tick(maintenance)

    assert harness.waiting_jobs(QUEUE) == [jobs[QUEUE]]
    assert harness.connection.zscore(keys.rq_scheduled(OTHER), jobs[OTHER]) == 1, "it is still to come"
    assert maintenance.background.failing() == {"maintenance_due_retries": "ResponseError"}
    harness.connection.delete(keys.rq_queue(OTHER))
    tick(maintenance)
    assert harness.waiting_jobs(OTHER) == [jobs[OTHER]]
    assert maintenance.background.failing() == {}


def test_a_popped_job_whose_id_is_not_text_keeps_no_other_from_its_queue(
    harness: Harness, maintenance: Maintenance
) -> None:
    accept_and_expand(harness, "1")
    harness.connection.lmove(keys.rq_queue(QUEUE), keys.rq_intermediate(QUEUE), "LEFT", "RIGHT")
    harness.connection.rpush(keys.rq_intermediate(QUEUE), b"\xff")

    for _ in range(4):
        tick(maintenance)

    assert len(harness.waiting_jobs(QUEUE)) == 1
    assert maintenance.background.failing() == {"maintenance_orphans": "UnicodeDecodeError"}


def test_a_list_that_cannot_be_trimmed_and_a_bad_worker_delay_no_other_task(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    harness.connection.hset(keys.COUNTS, keys.handler_counter("single", "report", "dead"), 0)
    harness.connection.set(keys.QUARANTINE, "no sorted set")
    harness.connection.sadd("rq:workers:expand", "rq:worker:old")
    harness.connection.hset("rq:worker:old", "birth", "yesterday, or so")
    connection = connections.connect(harness.url)
    failure_trimmer = FailureTrimmer(connection=connection, quarantine_max_bytes=1, dead_letter_max_bytes=1)
    known = {"single": [Filters(name="single", kinds=frozenset(("report",)))]}
    tasks = {"maintenance_trimming": failure_trimmer} | subscriptions.maintenance_tasks(known, connection=connection)
    keeping = Maintenance(["expand", QUEUE], connection=connection, tasks=tasks)
    (job_id,) = harness.waiting_jobs(QUEUE)
    harness.connection.lpop(keys.rq_queue(QUEUE))
    harness.connection.zadd(keys.rq_scheduled(QUEUE), {job_id: 1})

    with closing(keeping):
        for _ in range(2):
            tick(keeping)

        assert harness.waiting_jobs(QUEUE) == [job_id]
        assert keeping.background.failing() == {
            "maintenance_trimming": "ResponseError",
            "maintenance_subscriptions": "ValueError",
        }
    harness.connection.delete(keys.QUARANTINE)


def test_leases_end_for_nobody_while_redis_takes_no_renewal(harness: Harness, maintenance: Maintenance) -> None:
    """Workers of other machines live too, and could not renew theirs either."""
    accept_and_expand(harness, "1")
    name, away = worker_name(QUEUE), worker_name(OTHER)
    one, others = run(harness, QUEUE, name), run(harness, OTHER, away)
    harness.connection.zadd(keys.rq_started(OTHER), {others: 1})
    harness.connection.zadd(keys.rq_started(QUEUE), {one: time.time() + 5})
    harness.connection.config_set("min-replicas-to-write", 3)
    try:
        tick(maintenance, name)
    finally:
        harness.connection.config_set("min-replicas-to-write", 0)
    maintenance.tick([name])

    assert harness.waiting_jobs(OTHER) == []
    assert harness.connection.zscore(keys.rq_started(QUEUE), one) > time.time() + 10, (
        "renewed as soon as that is possible"
    )


def test_what_maintenance_logs_is_an_error(
    harness: Harness, maintenance: Maintenance, caplog: pytest.LogCaptureFixture
) -> None:
    harness.connection.zadd(keys.rq_started(QUEUE), {b"no-run": 0})

    tick(maintenance)

    assert {record.levelno for record in caplog.records if "loop_failed" in record.getMessage()} == {logging.ERROR}
