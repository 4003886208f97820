"""What supervisors owe to jobs: no lease of the living ends, what is due moves once, and what was finished is noted."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import rq.executions
import rq.registry
from rq.executions import Execution

from shared import connections, keys, queues
from tests.integration.harness import Harness, open_harness, worker_name
from tests.integration.scripted_handlers import accept_and_expand, single
from tests.redis_server import RedisServer
from workers.runtime.claim import ClaimStep
from workers.runtime.job_transitions import JobTransitions
from workers.runtime.journal_folder import JournalFolder
from workers.runtime.maintenance import Maintenance
from workers.runtime.worker import LEASE_SECONDS

QUEUE = queues.delivery_queue("single")


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, single) as made:
        yield made


def started(harness: Harness, name: str) -> Execution:
    """Have a worker of this name begin the job that waits first, and say no more of it."""
    worker: Any = harness.worker(QUEUE, name=name)
    runs: list[Execution] = []
    worker.perform_job = lambda _job, _queue, execution: runs.append(execution)
    worker.execute_job(*worker.dequeue_job_and_maintain_ttl(None))
    return runs[0]


def end_lease(harness: Harness, run: Execution, *, now: float | None = None) -> None:
    harness.connection.zadd(keys.rq_started(QUEUE), {run.composite_key: (now or time.time()) - 2})


def new_maintenance(harness: Harness, journals: JournalFolder | None = None) -> Maintenance:
    """Return one for which the time has come to end leases, but not yet to renew any."""
    made = Maintenance([QUEUE], connection=connections.connect(harness.url), journals=journals)
    made._expire_at, made._renew_at = 0.0, time.monotonic() + 3600
    return made


def test_a_changed_wall_clock_ends_no_lease_of_a_worker_that_its_supervisor_sees(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    run = started(harness, worker_name(QUEUE))
    end_lease(harness, run)

    with closing(new_maintenance(harness)) as maintenance:
        maintenance.tick([run.worker_name])

    assert harness.waiting_jobs(QUEUE) == []
    assert harness.connection.zscore(keys.rq_started(QUEUE), run.composite_key) > time.time()


@pytest.mark.parametrize("step_seconds", [45, 60, 86400])
def test_a_step_of_redis_clock_takes_no_job_from_a_worker_on_another_host(
    harness: Harness, step_seconds: int, caplog: pytest.LogCaptureFixture
) -> None:
    accept_and_expand(harness, "1")
    run = started(harness, worker_name(QUEUE))
    with (
        closing(new_maintenance(harness)) as elsewhere,
        closing(Maintenance([QUEUE], connection=connections.connect(harness.url))) as its_own,
    ):
        elsewhere.tick([])
        # As Redis sees it after the step: what it wrote before is older, and so is every process's time.
        harness.connection.zincrby(keys.rq_started(QUEUE), -step_seconds, run.composite_key)
        elsewhere._lease_clock._now_seconds = lambda: time.monotonic() - step_seconds
        elsewhere._expire_at = 0.0
        for _ in range(2):
            elsewhere.tick([])
        assert harness.waiting_jobs(QUEUE) == [], "the supervisor of its host has had no time to renew it"
        assert "action=redis_clock_stepped" in caplog.text

        its_own.tick([run.worker_name])
        elsewhere._expire_at = 0.0
        elsewhere.tick([])
        assert harness.waiting_jobs(QUEUE) == [], "renewed"

        end_lease(harness, run)
        elsewhere._expire_at = 0.0
        elsewhere.tick([])
    (job_id,) = harness.waiting_jobs(QUEUE)
    assert harness.connection.hget(keys.job(job_id), "deaths") == b"1", "a lease that ends later still ends"


def test_a_worker_whose_supervisor_died_has_its_lease_renewed_by_another_on_its_machine(
    harness: Harness, tmp_path: Path
) -> None:
    accept_and_expand(harness, "1")
    run = started(harness, worker_name(QUEUE))
    end_lease(harness, run)
    journals = JournalFolder(tmp_path)

    with closing(journals.open(run.worker_name)), closing(new_maintenance(harness, journals)) as maintenance:
        maintenance.tick([])
        assert harness.waiting_jobs(QUEUE) == [], "it works on"
    end_lease(harness, run)
    with closing(new_maintenance(harness, journals)) as maintenance:
        maintenance.tick([])

    assert len(harness.waiting_jobs(QUEUE)) == 1, "it does no more"


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_lease_is_as_long_on_hosts_whose_clocks_are_wrong(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    clock = time.time
    accept_and_expand(harness, "1")

    monkeypatch.setattr(time, "time", lambda: clock() + seconds)
    for module in (rq.executions, rq.registry):
        monkeypatch.setattr(module, "current_timestamp", lambda: int(clock() + seconds))
    run = started(harness, worker_name(QUEUE))
    with closing(new_maintenance(harness)) as maintenance:
        maintenance.tick([])
    assert harness.waiting_jobs(QUEUE) == [], "neither a worker nor a supervisor with a wrong clock ends it"

    end_lease(harness, run, now=clock())
    with closing(new_maintenance(harness)) as maintenance:
        maintenance.tick([])
    assert len(harness.waiting_jobs(QUEUE)) == 1, "nor do they make it longer"


def test_the_worker_of_an_ended_lease_is_known(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    run = started(harness, worker_name(QUEUE))

    assert harness.connection.ttl(run.key) > 100 * LEASE_SECONDS
    with closing(new_maintenance(harness)) as maintenance:
        maintenance.tick([run.worker_name])
    assert harness.connection.ttl(run.key) > 100 * LEASE_SECONDS, "after a renewal too"


def test_what_was_finished_is_recorded_at_each_job_even_if_another_moved_the_run(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    accept_and_expand(harness, "2", "3")
    first, second = harness.waiting_jobs(QUEUE)
    run = started(harness, worker_name(QUEUE))
    transitions = JobTransitions(QUEUE, connection=harness.connection)
    assert transitions.requeue(run, to="front", finished={})

    assert not transitions.requeue(
        run, to="front", finished={first: frozenset([0]), second: frozenset([1]), "gone": frozenset([0])}
    )

    harness.connection.lpop(keys.rq_queue(QUEUE))
    arguments = harness.enter_as_running(first, "other")
    claimed_jobs = ClaimStep(harness.connection, QUEUE).claim(
        job_id=first, worker="other", own_arguments=arguments, max_items=100, max_bytes=1 << 20
    )
    assert [claimed.finished for claimed in claimed_jobs] == [{0}, {1}], "who takes a job along knows it too"
    assert not harness.connection.exists(keys.job("gone"))


def test_a_job_with_which_a_worker_died_is_never_coalesced(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    accept_and_expand(harness, "2")
    first, second = harness.waiting_jobs(QUEUE)
    harness.connection.hset(keys.job(second), "deaths", 1)

    harness.connection.lpop(keys.rq_queue(QUEUE))
    arguments = harness.enter_as_running(first, "other")
    claimed_jobs = ClaimStep(harness.connection, QUEUE).claim(
        job_id=first, worker="other", own_arguments=arguments, max_items=100, max_bytes=1 << 20
    )

    assert [claimed.job_id for claimed in claimed_jobs] == [first]
    assert harness.waiting_jobs(QUEUE) == [second]


@pytest.mark.parametrize("asked_to_stop", [True, False])
def test_a_run_whose_lease_ends_counts_as_a_death_unless_its_worker_was_asked_to_stop(
    harness: Harness, *, asked_to_stop: bool
) -> None:
    accept_and_expand(harness, "1")
    run = started(harness, worker_name(QUEUE))
    # Both are killed when this is over, by a platform whose grace is shorter.
    supervisor = Maintenance([QUEUE], connection=connections.connect(harness.url))
    if asked_to_stop:
        supervisor.begin_stop()
    supervisor.tick([run.worker_name])
    end_lease(harness, run)

    with closing(new_maintenance(harness)) as elsewhere:
        elsewhere.tick([])

    (job_id,) = harness.waiting_jobs(QUEUE)
    assert harness.connection.hget(keys.job(job_id), "deaths") == (None if asked_to_stop else b"1")
    assert not harness.connection.exists(run.key)


def test_a_stop_is_recorded_for_no_ended_run_and_no_worker_of_another_pool(harness: Harness, tmp_path: Path) -> None:
    accept_and_expand(harness, "1")
    journals = JournalFolder(tmp_path)
    run = started(harness, worker_name(QUEUE))
    with closing(journals.open(run.worker_name)), closing(new_maintenance(harness, journals)) as maintenance:
        maintenance.begin_stop()
        maintenance.tick([])
        assert not harness.connection.hexists(run.key, "stopping"), "another supervisor's"

        assert JobTransitions(QUEUE, connection=harness.connection).requeue(run, to="front", finished={})
        assert not JobTransitions(QUEUE, connection=harness.connection).renew(
            run, lease_seconds=9, runs_seconds=9, stopping=True
        )

    assert not harness.connection.exists(run.key)


def test_due_jobs_move_once_however_many_supervisors_check_and_deleted_ones_not_at_all(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    (job_id,) = harness.waiting_jobs(QUEUE)
    harness.connection.lpop(keys.rq_queue(QUEUE))
    now = time.time()
    harness.connection.zadd(keys.rq_scheduled(QUEUE), {job_id: now - 1, "deleted": now - 1, "later": now + 60})

    for _ in range(3):
        JobTransitions(QUEUE, connection=harness.connection).promote_due(limit=100)

    assert harness.waiting_jobs(QUEUE) == [job_id]
    assert harness.connection.zrange(keys.rq_scheduled(QUEUE), 0, -1) == [b"later"]
    assert harness.connection.hget(keys.job(job_id), "status") == b"queued"


def test_a_run_that_has_ended_is_not_brought_back_by_a_renewal(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    run = started(harness, worker_name(QUEUE))
    transitions = JobTransitions(QUEUE, connection=harness.connection)
    assert transitions.renew(run, lease_seconds=60, runs_seconds=3600)
    assert transitions.requeue(run, to="front", finished={})

    assert not transitions.renew(run, lease_seconds=60, runs_seconds=3600)

    assert not harness.connection.exists(run.key, keys.rq_started(QUEUE))
