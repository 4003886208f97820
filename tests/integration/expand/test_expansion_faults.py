"""Expansion with faults: killed, disconnected, overtaken, or done by several at once. No event is lost or doubled."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from shared import keys, queues
from tests.integration import faults, recorders
from tests.integration.faults import Fault, StageRun
from tests.integration.harness import Harness, open_harness, record, reply, status, statuses
from tests.redis_server import RedisServer
from workers.expand import expansion
from workers.runtime.job_transitions import JobTransitions
from workers.runtime.run_errors import StaleRun

pytestmark = pytest.mark.usefixtures("_hurried")


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    faults.check_at_once(monkeypatch)


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, *recorders.ALL) as made:
        yield made


def accept_all_kinds(harness: Harness) -> None:
    harness.accept(status(record("1"), record("2"), record("1")), reply("m1", "q1"), reply("m1", "q2"))
    harness.accept(status(record("2"), {"no": "record"}, record("3")), reply("m1", "q3"))
    harness.accept(status(record("4")))


def assert_all_is_expanded_once(harness: Harness) -> None:
    waiting = Counter(harness.waiting_event_ids(recorders.single))
    assert sorted(waiting.values()) == [1] * 5, "four reports and a reply"
    sums = harness.audit()
    assert (sums.received, sums.unique, sums.duplicate, sums.quarantined, sums.waiting) == (10, 5, 4, 1, 0)
    assert sums.balances
    assert len(harness.quarantine()) == 1
    jobs = {keys.job(job) for name in recorders.NAMED for job in harness.waiting_jobs(queues.delivery_queue(name))}
    rq = {keys.rq_queue(queues.delivery_queue(name)) for name in recorders.NAMED}
    assert harness.leftover_keys() == jobs | rq


@pytest.mark.parametrize("fault", ["killed", "unsent", "lost"])
def test_a_fault_at_any_exchange_with_redis_loses_nothing_and_doubles_nothing(harness: Harness, fault: Fault) -> None:
    stage_run = StageRun(harness.url, "expand")
    accept_all_kinds(harness)
    fault_points = stage_run.fault_points()
    assert_all_is_expanded_once(harness)
    assert len(fault_points) > 7, "to pop, start, claim, fan out and end, at the least"

    # One of the three also covers the exchanges before the first job is popped, which all workers have.
    points = range(1, fault_points[-1] + 1) if fault == "killed" else fault_points
    for at in faults.points_to_try(points, fault):
        harness.connection.flushall()
        accept_all_kinds(harness)

        stage_run.run_with_fault_and_rerun(at, fault)

        try:
            assert_all_is_expanded_once(harness)
        except AssertionError as exc:
            raise AssertionError(f"{fault} at exchange {at} of {fault_points}") from exc


def test_a_batch_of_several_chunks_continues_where_its_killed_run_stopped(harness: Harness) -> None:
    stage_run = StageRun(harness.url, "expand")
    seen: set[int] = set()
    harness.accept(status(record("1")))
    for at in range(stage_run.fault_points()[0] + 1, 100):
        harness.connection.flushall()
        harness.accept(*statuses([str(n) for n in range(1400)], bundle=100), status({"no": "record"}))
        harness.accept(*statuses([str(n) for n in range(1300, 1500)], bundle=100))
        first, _ = harness.waiting_jobs(queues.EXPAND)

        stage_run.run_with_fault(at, "killed")
        if not harness.connection.exists(keys.job(first)):
            break
        seen.add(int(harness.connection.hget(keys.job(first), "progress") or 0))
        stage_run.run()

        sums = harness.audit()
        assert (sums.unique, sums.duplicate, sums.quarantined, sums.waiting) == (1500, 100, 1, 0), f"killed at {at}"
        assert sums.balances

    assert seen == {*range(0, 1401, expansion.MAX_CHUNK_WRITES // (1 + len(recorders.ALL))), 1401}


@pytest.mark.parametrize("seed", range(4))
def test_two_processes_with_the_same_events_deliver_each_once(harness: Harness, seed: int) -> None:
    rounds = random.Random(seed)
    ids = [str(n) for n in range(400)]
    for _ in range(4):
        for _ in range(10):
            rounds.shuffle(ids)
            harness.accept(
                *statuses(ids[:40], bundle=rounds.choice((1, 7, 40))), reply(f"m{rounds.randint(1, 20)}", "q")
            )
        stage_run = StageRun(harness.url, "expand")
        faults.join_all([stage_run.start(), stage_run.start()])

    waiting = Counter(harness.waiting_event_ids(recorders.single))
    assert set(waiting.values()) == {1}
    sums = harness.audit()
    assert (sums.waiting, sums.missing, sums.unique) == (0, 0, len(waiting))
    assert all(handler.missing == 0 for handler in sums.handlers)
    assert sums.received == sums.unique + sums.duplicate == 4 * 10 * 41


def test_two_processes_that_expand_one_batch_of_many_chunks_lose_and_double_nothing(harness: Harness) -> None:
    for _ in range(4):
        harness.accept(*statuses([str(n) for n in range(1500)], bundle=50))

    stage_run = StageRun(harness.url, "expand")
    faults.join_all([stage_run.start(), stage_run.start()])

    assert (harness.audit().unique, harness.audit().duplicate, harness.audit().missing) == (1500, 4500, 0)


def test_a_run_whose_job_another_worker_owns_ends_without_effect(harness: Harness) -> None:
    harness.accept(status(record("1")))
    job_id = harness.connection.lpop(keys.rq_queue(queues.EXPAND)).decode()
    arguments = harness.enter_as_running(job_id, "other")
    stale, other = (
        expansion.Expander(connection=harness.connection, handlers=harness.handlers, dedupe_seconds=60)
        for _ in range(2)
    )
    step = stale._claim_step
    claimed = step.claim(job_id=job_id, worker="other", own_arguments=arguments, max_items=1, max_bytes=1)

    other.run(job_id=job_id, worker="other", arguments=arguments)
    step.claim = lambda **_: claimed  # type: ignore[method-assign]
    with pytest.raises(StaleRun):
        stale.run(job_id=job_id, worker="", arguments=arguments)

    assert (harness.audit().unique, harness.audit().duplicate) == (1, 0)
    assert len(harness.waiting_event_ids(recorders.single)) == 1


def test_a_job_that_coalesced_others_is_not_coalesced_itself(harness: Harness) -> None:
    for n in range(4):
        harness.accept(status(record(str(n))))
    _first, second, third, _fourth = harness.waiting_jobs(queues.EXPAND)
    # A run of `second` coalesced `third`, and was requeued: `third` waits for the next run of `second`.
    harness.connection.lrem(keys.rq_queue(queues.EXPAND), 1, third)
    harness.connection.rpush(keys.coalesced(second), third)

    harness.expand()

    assert (harness.audit().unique, harness.audit().waiting, harness.audit().missing) == (4, 0, 0)
    assert not harness.connection.exists(keys.coalesced(second))


def test_a_job_that_is_in_the_queue_twice_is_expanded_once(harness: Harness) -> None:
    harness.accept(status(record("1")))
    harness.accept(status(record("2")))
    for job_id in reversed(harness.waiting_jobs(queues.EXPAND)):
        harness.connection.rpush(keys.rq_queue(queues.EXPAND), job_id)

    harness.expand()

    assert (harness.audit().unique, harness.audit().duplicate, harness.audit().missing) == (2, 0, 0)


def test_jobs_coalesced_by_a_job_that_is_deleted_by_hand_are_still_expanded(harness: Harness) -> None:
    for n in range(3):
        harness.accept(status(record(str(n))))
    _first, second, third = harness.waiting_jobs(queues.EXPAND)
    harness.connection.lrem(keys.rq_queue(queues.EXPAND), 1, third)
    harness.connection.rpush(keys.coalesced(second), third)
    harness.connection.delete(keys.job(second))

    harness.expand()

    assert harness.audit().unique == 2
    assert harness.audit().missing == 1, "only what was deleted"


def test_an_orphan_of_a_worker_that_died_is_requeued_after_two_checks(harness: Harness) -> None:
    harness.accept(status(record("1")))
    harness.connection.lmove(keys.rq_queue(queues.EXPAND), keys.rq_intermediate(queues.EXPAND), "LEFT", "RIGHT")
    keeper = harness.maintenance()

    keeper.tick([])
    assert harness.waiting_jobs(queues.EXPAND) == [], "it may be about to be started"
    keeper.tick([])

    assert len(harness.waiting_jobs(queues.EXPAND)) == 1
    harness.expand()
    assert harness.audit().unique == 1
    keeper.close()


@pytest.mark.parametrize("is_expanded", [False, True], ids=["still waits", "has ended"])
def test_a_worker_that_was_slow_to_start_a_job_leaves_it_to_its_new_owner(harness: Harness, is_expanded: bool) -> None:
    harness.accept(status(record("1")))
    slow: Any = harness.worker(queues.EXPAND)
    slow.register_birth()
    found = slow.dequeue_job_and_maintain_ttl(None)
    keeper = harness.maintenance()
    keeper.tick([])
    keeper.tick([])
    if is_expanded:
        harness.expand()

    slow.perform_job = lambda *_: pytest.fail("it ran")
    slow.execute_job(*found)
    slow.teardown()

    assert harness.connection.zcard(keys.rq_started(queues.EXPAND)) == 0
    harness.expand()
    assert (harness.audit().unique, harness.audit().duplicate, harness.audit().missing) == (1, 0, 0)
    jobs = {keys.job(job) for name in recorders.NAMED for job in harness.waiting_jobs(queues.delivery_queue(name))}
    assert {key for key in harness.leftover_keys() if key.startswith("rq:job:")} == jobs, (
        "no ghost of the job it let go"
    )
    keeper.close()


def test_a_job_that_is_requeued_twice_is_in_the_queue_once(harness: Harness) -> None:
    harness.accept(status(record("1")))
    worker: Any = harness.worker(queues.EXPAND)
    job, queue = worker.dequeue_job_and_maintain_ttl(None)
    runs: list[Any] = []
    worker.perform_job = lambda _job, _queue, execution: runs.append(execution)
    worker.execute_job(job, queue)
    transitions = JobTransitions(queues.EXPAND, connection=harness.connection)

    assert transitions.requeue(runs[0], to="front", finished={}, died=True)
    assert not transitions.requeue(runs[0], to="front", finished={}, died=True)

    assert harness.waiting_jobs(queues.EXPAND) == [job.id]
    assert harness.connection.hget(keys.job(job.id), "deaths") == b"1"


def test_a_job_whose_lease_ran_out_is_requeued_once_by_several_supervisors(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.accept(status(record("1")))
    lost = harness.worker(queues.EXPAND)
    found = lost.dequeue_job_and_maintain_ttl(None)
    assert found is not None
    monkeypatch.setattr(lost, "perform_job", lambda *_: None)
    lost.execute_job(*found)
    (member,) = harness.connection.zrange(keys.rq_started(queues.EXPAND), 0, -1)
    keepers = [harness.maintenance() for _ in range(3)]
    for keeper in keepers:
        keeper._expire_at = 0.0
        keeper.tick([])
    assert harness.waiting_jobs(queues.EXPAND) == [], "its lease still runs"

    harness.connection.zadd(keys.rq_started(queues.EXPAND), {member: time.time() - 1})
    for keeper in keepers:
        keeper._expire_at = 0.0
        keeper.record_exit(lost.name)
        keeper.tick([])

    assert len(harness.waiting_jobs(queues.EXPAND)) == 1
    harness.expand()
    assert (harness.audit().unique, harness.audit().duplicate, harness.audit().missing) == (1, 0, 0)
    for keeper in keepers:
        keeper.close()
