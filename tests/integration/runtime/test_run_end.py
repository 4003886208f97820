"""The end of a run whose job is done: one step, which deletes the job only if the run still holds it."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rq.executions import Execution

from shared import keys, queues
from tests.integration.harness import Harness, open_harness, statuses, worker_name
from tests.integration.scripted_handlers import accept_and_expand, single
from tests.redis_server import RedisServer
from workers.runtime import worker as workers
from workers.runtime.job_transitions import JobTransitions
from workers.runtime.run_errors import SettlementFailed

QUEUE = queues.delivery_queue("single")


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, single) as made:
        yield made


@pytest.fixture
def transitions(harness: Harness) -> JobTransitions:
    return JobTransitions(QUEUE, connection=harness.connection)


def started(harness: Harness) -> Execution:
    """Have a worker begin the job that waits first, and say no more of it."""
    worker: Any = harness.worker(QUEUE, name=worker_name(QUEUE))
    runs: list[Execution] = []
    worker.perform_job = lambda _job, _queue, execution: runs.append(execution)
    worker.execute_job(*worker.dequeue_job_and_maintain_ttl(None))
    return runs[0]


def settled(harness: Harness) -> Execution:
    """Have a worker begin the job that waits first and settle all of it."""
    run = started(harness)
    key = keys.job(run.job_id)
    harness.connection.hset(key, "progress", str(int(harness.connection.hget(key, "items") or 0)))
    return run


def test_a_run_that_holds_its_job_deletes_it_and_every_trace_of_itself(
    harness: Harness, transitions: JobTransitions
) -> None:
    accept_and_expand(harness, "1")
    run = settled(harness)

    assert transitions.end(run, [("HSET", keys.rq_worker(run.worker_name), "state", "idle")])

    found = {key.decode() for key in harness.connection.keys("*")}
    assert not {key for key in found if run.job_id in key}
    assert keys.rq_started(QUEUE) not in found
    assert harness.connection.hget(keys.rq_worker(run.worker_name), "state") == b"idle"


def test_a_run_that_lost_its_job_leaves_it_to_the_run_that_has_it(
    harness: Harness, transitions: JobTransitions
) -> None:
    accept_and_expand(harness, "1")
    lost = started(harness)
    assert transitions.requeue(lost, to="front", finished={})
    owner = started(harness)

    assert transitions.end(lost, [])

    assert harness.connection.hexists(keys.job(owner.job_id), "data")
    assert [run.composite_key for run in transitions.list_executions(owner.worker_name)] == [owner.composite_key]
    assert harness.connection.zrange(f"rq:executions:{owner.job_id}", 0, -1) == [owner.id.encode()]
    assert transitions.requeue(owner, to="front", finished={}), "and it can still be requeued"


def test_a_run_does_not_end_while_jobs_that_it_coalesced_are_left(
    harness: Harness, transitions: JobTransitions
) -> None:
    accept_and_expand(harness, "1")
    run = settled(harness)
    harness.connection.rpush(keys.coalesced(run.job_id), "other")

    assert not transitions.end(run, [("SET", "never", "set")])

    assert harness.connection.hexists(keys.job(run.job_id), "data")
    assert transitions.list_executions(run.worker_name)
    assert not harness.connection.exists("never")


def test_a_run_does_not_end_if_redis_fell_back_to_a_moment_before_a_settlement(
    harness: Harness, transitions: JobTransitions
) -> None:
    accept_and_expand(harness, "1")
    run = started(harness)

    with pytest.raises(SettlementFailed, match="fell back"):
        transitions.end(run, [("SET", "never", "set")])

    assert harness.connection.hexists(keys.job(run.job_id), "data")
    assert not harness.connection.exists("never")


@pytest.mark.parametrize("queue", [queues.EXPAND, QUEUE])
def test_what_was_settled_before_redis_fell_back_is_kept_for_another_run(
    harness: Harness, queue: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    harness.accept(*statuses(["1", "2"]))
    if queue == QUEUE:
        harness.expand()
    end = JobTransitions.end

    def fall_back_and_end(self: JobTransitions, execution: Execution, commands: Any) -> bool:
        harness.connection.hdel(keys.job(execution.job_id), "progress", "settlement")
        return end(self, execution, commands)

    monkeypatch.setattr(JobTransitions, "end", fall_back_and_end)
    if queue == QUEUE:
        harness.deliver(single, max_jobs=1)
    else:
        harness.expand(max_jobs=1)

    assert "Redis fell back during the run" in caplog.text
    (job_id,) = harness.connection.zrange(keys.rq_scheduled(queue), 0, -1)
    assert harness.connection.hexists(keys.job(job_id.decode()), "data")


def test_a_command_that_fails_leaves_no_run_behind(harness: Harness, transitions: JobTransitions) -> None:
    accept_and_expand(harness, "1")
    run = settled(harness)
    harness.connection.set("text", "no number")

    with pytest.raises(Exception, match="not an integer"):
        transitions.end(run, [("INCR", "text")])

    assert not harness.connection.exists(keys.job(run.job_id), run.key)
    assert not transitions.list_executions(run.worker_name)


def test_a_worker_that_is_busy_says_once_a_second_that_it_lives(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = harness.worker(QUEUE)
    moment = time.monotonic()
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: moment))
    calls: list[float] = []
    harness.connection.config_resetstat()

    for _ in range(5):
        worker._send_heartbeat()
    calls.append(harness.connection.info("commandstats")["cmdstat_hset"]["calls"])
    moment += 1.0
    worker._send_heartbeat()
    calls.append(harness.connection.info("commandstats")["cmdstat_hset"]["calls"])

    assert calls == [1, 2]
    assert harness.connection.ttl(worker.key) > workers.LEASE_SECONDS
