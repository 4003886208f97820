"""Expansion that is disturbed: killed, cut off, overtaken, or done by several at once. No event is lost or doubled."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from shared import keys, queues
from tests.integration import faults, witnesses
from tests.integration.faults import Fault, Journey
from tests.integration.workbench import Bench, _quick_server, bench, quick_redis, record, reply, status, statuses  # noqa: F401
from tests.redis_server import RedisServer
from workers.expand import expansion
from workers.runtime.job_transitions import JobTransitions
from workers.runtime.steps import StaleRun, Steps

pytestmark = pytest.mark.usefixtures("_hurried")


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    faults.hurried(monkeypatch)


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    with bench(quick_redis.url, *witnesses.ALL) as made:
        yield made


def keep_a_little_of_everything(b: Bench) -> None:
    b.keep(status(record("1"), record("2"), record("1")), reply("m1", "q1"), reply("m1", "q2"))
    b.keep(status(record("2"), {"no": "record"}, record("3")), reply("m1", "q3"))
    b.keep(status(record("4")))


def assert_all_is_expanded_once(b: Bench) -> None:
    waiting = Counter(b.waiting_at(witnesses.single))
    assert sorted(waiting.values()) == [1] * 5, "four reports and a reply"
    sums = b.audit()
    assert (sums.received, sums.unique, sums.duplicate, sums.quarantined, sums.waiting) == (10, 5, 4, 1, 0)
    assert sums.balances
    assert len(b.quarantine()) == 1
    jobs = {keys.job(job) for name in witnesses.NAMED for job in b.waiting(queues.delivery_queue(name))}
    rq = {keys.rq_queue(queues.delivery_queue(name)) for name in witnesses.NAMED}
    assert b.leftovers() == jobs | rq


@pytest.mark.parametrize("fault", ["killed", "unsent", "lost"])
def test_a_fault_at_any_exchange_with_redis_loses_nothing_and_doubles_nothing(b: Bench, fault: Fault) -> None:
    journey = Journey(b.url, "expand")
    keep_a_little_of_everything(b)
    points = journey.points()
    assert_all_is_expanded_once(b)
    assert len(points) > 10

    # One of the three also has the exchanges before the first job is popped, which are every worker's.
    for at in range(1, points[-1] + 1) if fault == "killed" else points:
        b.connection.flushall()
        keep_a_little_of_everything(b)

        journey.disturbed(at, fault)

        try:
            assert_all_is_expanded_once(b)
        except AssertionError as exc:
            raise AssertionError(f"{fault} at exchange {at} of {points}") from exc


def test_a_batch_of_several_commits_goes_on_where_its_killed_run_was(b: Bench) -> None:
    journey = Journey(b.url, "expand")
    seen: set[int] = set()
    b.keep(status(record("1")))
    for at in range(journey.points()[0] + 1, 100):
        b.connection.flushall()
        b.keep(*statuses([str(n) for n in range(1400)], bundle=100), status({"no": "record"}))
        b.keep(*statuses([str(n) for n in range(1300, 1500)], bundle=100))
        first, _ = b.waiting(queues.EXPAND)

        journey.broken(at, "killed")
        if not b.connection.exists(keys.job(first)):
            break
        seen.add(int(b.connection.hget(keys.job(first), "progress") or 0))
        journey.goes_on()

        sums = b.audit()
        assert (sums.unique, sums.duplicate, sums.quarantined, sums.waiting) == (1500, 100, 1, 0), f"killed at {at}"
        assert sums.balances

    assert seen == {*range(0, 1401, expansion.MAX_CHUNK_WRITES // (1 + len(witnesses.ALL))), 1401}


@pytest.mark.parametrize("seed", range(4))
def test_two_processes_with_the_same_events_make_each_of_them_once(b: Bench, seed: int) -> None:
    rounds = random.Random(seed)
    ids = [str(n) for n in range(400)]
    for _ in range(4):
        for _ in range(10):
            rounds.shuffle(ids)
            b.keep(*statuses(ids[:40], bundle=rounds.choice((1, 7, 40))), reply(f"m{rounds.randint(1, 20)}", "q"))
        journey = Journey(b.url, "expand")
        faults.everyone([journey.start(), journey.start()])

    waiting = Counter(b.waiting_at(witnesses.single))
    assert set(waiting.values()) == {1}
    sums = b.audit()
    assert (sums.waiting, sums.missing, sums.unique) == (0, 0, len(waiting))
    assert all(handler.missing == 0 for handler in sums.handlers)
    assert sums.received == sums.unique + sums.duplicate == 4 * 10 * 41


def test_two_processes_that_expand_one_batch_of_many_commits_each_leave_it_whole(b: Bench) -> None:
    for _ in range(4):
        b.keep(*statuses([str(n) for n in range(1500)], bundle=50))

    journey = Journey(b.url, "expand")
    faults.everyone([journey.start(), journey.start()])

    assert (b.audit().unique, b.audit().duplicate, b.audit().missing) == (1500, 4500, 0)


def test_a_run_whose_job_another_has_gone_on_with_gives_up_without_harm(b: Bench) -> None:
    b.keep(status(record("1")))
    job_id = b.connection.lpop(keys.rq_queue(queues.EXPAND)).decode()
    arguments = queues.parse_arguments(b.connection.hget(keys.job(job_id), "data"))
    stale, steps = Steps(b.connection), Steps(b.connection)
    run = expansion.Expander(steps=stale, handlers=b.handlers, dedupe_seconds=60)
    portions = stale.claim(queue=queues.EXPAND, job_id=job_id, own_arguments=arguments, max_items=1, max_bytes=1)

    expansion.Expander(steps=steps, handlers=b.handlers, dedupe_seconds=60).run(job_id=job_id, arguments=arguments)
    stale.claim = lambda **_: portions  # type: ignore[method-assign]
    with pytest.raises(StaleRun):
        run.run(job_id=job_id, arguments=arguments)

    assert (b.audit().unique, b.audit().duplicate) == (1, 0)
    assert len(b.waiting_at(witnesses.single)) == 1


def test_a_job_that_took_others_along_is_not_itself_taken_along(b: Bench) -> None:
    for n in range(4):
        b.keep(status(record(str(n))))
    _first, second, third, _fourth = b.waiting(queues.EXPAND)
    # A run of `second` took `third` along, and was put back: both are its own affair until it runs again.
    b.connection.lrem(keys.rq_queue(queues.EXPAND), 1, third)
    b.connection.rpush(keys.coalesced(second), third)

    b.expand()

    assert (b.audit().unique, b.audit().waiting, b.audit().missing) == (4, 0, 0)
    assert not b.connection.exists(keys.coalesced(second))


def test_a_job_that_stands_in_the_queue_twice_is_expanded_once(b: Bench) -> None:
    b.keep(status(record("1")))
    b.keep(status(record("2")))
    for job_id in reversed(b.waiting(queues.EXPAND)):
        b.connection.rpush(keys.rq_queue(queues.EXPAND), job_id)

    b.expand()

    assert (b.audit().unique, b.audit().duplicate, b.audit().missing) == (2, 0, 0)


def test_what_a_job_took_along_goes_on_when_the_job_is_deleted_by_hand(b: Bench) -> None:
    for n in range(3):
        b.keep(status(record(str(n))))
    _first, second, third = b.waiting(queues.EXPAND)
    b.connection.lrem(keys.rq_queue(queues.EXPAND), 1, third)
    b.connection.rpush(keys.coalesced(second), third)
    b.connection.delete(keys.job(second))

    b.expand()

    assert b.audit().unique == 2
    assert b.audit().missing == 1, "only what was deleted"


def test_a_job_popped_by_a_worker_that_died_is_given_back_after_two_looks(b: Bench) -> None:
    b.keep(status(record("1")))
    b.connection.lmove(keys.rq_queue(queues.EXPAND), keys.rq_intermediate(queues.EXPAND), "LEFT", "RIGHT")
    keeper = b.maintenance()

    keeper.tick([])
    assert b.waiting(queues.EXPAND) == [], "it may be about to be started"
    keeper.tick([])

    assert len(b.waiting(queues.EXPAND)) == 1
    b.expand()
    assert b.audit().unique == 1
    keeper.close()


@pytest.mark.parametrize("is_expanded", [False, True], ids=["still waits", "has ended"])
def test_a_worker_that_was_slow_to_start_a_job_leaves_it_to_whom_it_was_given(b: Bench, is_expanded: bool) -> None:
    b.keep(status(record("1")))
    slow: Any = b.worker(queues.EXPAND)
    slow.register_birth()
    found = slow.dequeue_job_and_maintain_ttl(None)
    keeper = b.maintenance()
    keeper.tick([])
    keeper.tick([])
    if is_expanded:
        b.expand()

    slow.perform_job = lambda *_: pytest.fail("it ran")
    slow.execute_job(*found)
    slow.teardown()

    assert b.connection.zcard(keys.rq_started(queues.EXPAND)) == 0
    b.expand()
    assert (b.audit().unique, b.audit().duplicate, b.audit().missing) == (1, 0, 0)
    jobs = {keys.job(job) for name in witnesses.NAMED for job in b.waiting(queues.delivery_queue(name))}
    assert {key for key in b.leftovers() if key.startswith("rq:job:")} == jobs, "no ghost of the job it let go"
    keeper.close()


def test_a_run_that_two_put_back_is_in_the_queue_once(b: Bench) -> None:
    b.keep(status(record("1")))
    worker: Any = b.worker(queues.EXPAND)
    job, queue = worker.dequeue_job_and_maintain_ttl(None)
    runs: list[Any] = []
    worker.perform_job = lambda _job, _queue, execution: runs.append(execution)
    worker.execute_job(job, queue)
    places = JobTransitions(queues.EXPAND, connection=b.connection)

    assert places.requeue(runs[0], to="front", finished={}, died=True)
    assert not places.requeue(runs[0], to="front", finished={}, died=True)

    assert b.waiting(queues.EXPAND) == [job.id]
    assert b.connection.hget(keys.job(job.id), "deaths") == b"1"


def test_a_lease_that_ran_out_gives_the_job_back_once_however_many_look(
    b: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    b.keep(status(record("1")))
    lost = b.worker(queues.EXPAND)
    found = lost.dequeue_job_and_maintain_ttl(None)
    assert found is not None
    monkeypatch.setattr(lost, "perform_job", lambda *_: None)
    lost.execute_job(*found)
    (member,) = b.connection.zrange(keys.rq_started(queues.EXPAND), 0, -1)
    keepers = [b.maintenance() for _ in range(3)]
    for keeper in keepers:
        keeper._expire_at = 0.0
        keeper.tick([])
    assert b.waiting(queues.EXPAND) == [], "its lease still runs"

    b.connection.zadd(keys.rq_started(queues.EXPAND), {member: time.time() - 1})
    for keeper in keepers:
        keeper._expire_at = 0.0
        keeper.record_exit(lost.name)
        keeper.tick([])

    assert len(b.waiting(queues.EXPAND)) == 1
    b.expand()
    assert (b.audit().unique, b.audit().duplicate, b.audit().missing) == (1, 0, 0)
    for keeper in keepers:
        keeper.close()
