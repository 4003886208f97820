"""The audit finds what waits in each of RQ's keys, and says how much is missing if something was removed."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from callbacks import Reject, ReplyEvent, ReportEvent, handler
from shared import keys, queue_jobs, queues
from shared.batches import Quarantined
from tests.integration.harness import RECEIVED_MS, Harness, open_harness, record, reply, status
from tests.redis_server import RedisServer


@handler(ReportEvent, ReplyEvent)
def taker(event: ReportEvent | ReplyEvent) -> None:
    if event.recipient == "rejected":
        raise Reject("no")
    if event.recipient == "failing":
        raise RuntimeError("no")


@pytest.fixture
def harness(redis_server: RedisServer) -> Iterator[Harness]:
    with open_harness(redis_server.url, taker) as made:
        yield made


def moved(harness: Harness, queue: str, to: str) -> str:
    """Move the queue's first job to another of RQ's keys, as RQ does between two steps."""
    job_id = harness.waiting_jobs(queue)[0]
    harness.connection.lrem(keys.rq_queue(queue), 1, job_id)
    moves = {
        "intermediate": lambda: harness.connection.rpush(keys.rq_intermediate(queue), job_id),
        "started": lambda: harness.connection.zadd(keys.rq_started(queue), {f"{job_id}:run": time.time() + 60}),
        "scheduled": lambda: harness.connection.zadd(keys.rq_scheduled(queue), {job_id: time.time() + 60}),
        "failed": lambda: harness.connection.zadd(keys.rq_failed(queue), {job_id: time.time() + 60}),
        "queue": lambda: harness.connection.rpush(keys.rq_queue(queue), job_id),
    }
    moves[to]()
    return job_id


def test_an_empty_service_balances(harness: Harness) -> None:
    sums = harness.audit()

    assert (sums.received, sums.pending, sums.missing, sums.balances) == (0, 0, 0, True)
    assert not sums.moving


def test_every_record_is_accounted_for_at_each_stage(harness: Harness) -> None:
    harness.accept(
        status(record("1"), record("2", to="rejected"), record("3", to="failing"), record("1")),
        reply("m1", "q1"),
        status({"no": "record"}),
        quarantined=[Quarantined(kind=None, source="gw", received_ms=RECEIVED_MS, error="$", body=b"{}", records=2)],
    )
    kept = harness.audit()
    assert (kept.received, kept.quarantined, kept.waiting, kept.balances) == (8, 2, 6, True)

    harness.expand()
    expanded = harness.audit()
    assert (expanded.unique, expanded.duplicate, expanded.quarantined, expanded.waiting) == (4, 1, 3, 0)
    assert (expanded.pending, expanded.balances) == (4, True)

    harness.deliver(taker)
    sums = harness.audit()
    (at,) = sums.handlers
    assert (at.queued, at.delivered, at.dead, at.waiting, at.missing) == (4, 2, 1, 1, 0)
    assert sums.balances
    assert sums.records["report"].unique == 3
    assert sums.records["reply"].unique == 1
    assert sums.records["unknown"].quarantined == 2


@pytest.mark.parametrize("rq_key", ["queue", "intermediate", "started", "scheduled", "failed"])
@pytest.mark.parametrize("queue", ["expand", "deliver-taker"])
def test_what_waits_is_found_in_each_of_rqs_keys(harness: Harness, queue: str, rq_key: str) -> None:
    harness.accept(status(record("1"), record("2")))
    if queue != queues.EXPAND:
        harness.expand()

    moved(harness, queue, rq_key)

    assert (harness.audit().pending, harness.audit().balances) == (2, True)


@pytest.mark.parametrize("queue", ["expand", "deliver-taker"])
def test_jobs_coalesced_into_a_running_job_are_found(harness: Harness, queue: str) -> None:
    for n in range(3):
        harness.accept(status(record(str(n))))
        if queue != queues.EXPAND:
            harness.expand()
    job_id = moved(harness, queue, "started")
    for other in harness.waiting_jobs(queue):
        harness.connection.lmove(keys.rq_queue(queue), keys.coalesced(job_id), "LEFT", "RIGHT")
        assert other

    assert (harness.audit().pending, harness.audit().balances) == (3, True)


def test_settled_items_do_not_count_as_waiting(harness: Harness) -> None:
    harness.accept(status(*(record(str(n)) for n in range(10))))
    harness.expand()
    (job_id,) = harness.waiting_jobs("deliver-taker")
    harness.connection.hset(keys.job(job_id), "progress", "2,4-6,9")
    harness.connection.hincrby(keys.COUNTS, "report.delivered:taker", 6)

    (at,) = harness.audit().handlers

    assert (at.waiting, at.delivered, at.missing) == (4, 6, 0)


@pytest.mark.parametrize("queue", ["expand", "deliver-taker"])
def test_the_items_of_a_job_deleted_by_hand_are_missing(harness: Harness, queue: str) -> None:
    harness.accept(status(record("1"), record("2"), record("3")))
    harness.accept(status(record("4")))
    if queue != queues.EXPAND:
        harness.expand()
    job_id = harness.waiting_jobs(queue)[0]
    number = int(harness.connection.hget(keys.job(job_id), "items"))

    harness.connection.delete(keys.job(job_id))

    sums = harness.audit()
    assert (sums.balances, sums.moving) == (False, False)
    assert sums.missing + sum(at.missing for at in sums.handlers) == number


def while_reading(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """Take one of the steps each time the audit has read a queue's own jobs, and not yet the coalesced ones."""
    left, read_coalesced = list(steps), queue_jobs.with_coalesced

    def with_coalesced(*arguments: Any, **options: Any) -> set[str]:
        if left:
            left.pop(0)()
        return read_coalesced(*arguments, **options)

    monkeypatch.setattr(queue_jobs, "with_coalesced", with_coalesced)


def test_an_event_that_fails_during_the_audit_is_not_missing(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.accept(status(record("1", to="failing"), record("2", to="failing")))
    harness.expand()
    while_reading(monkeypatch, lambda: None, lambda: harness.deliver(taker))

    sums = harness.audit()

    assert (sums.handlers[0].waiting, sums.balances, sums.moving) == (2, True, False)


def test_a_job_that_a_run_returns_during_the_audit_is_not_missing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = queues.delivery_queue("taker")
    for n in range(3):
        harness.accept(status(record(str(n))))
        harness.expand()
    job_id = moved(harness, queue, "started")

    def claim() -> None:
        for _ in range(2):
            harness.connection.lmove(keys.rq_queue(queue), keys.coalesced(job_id), "LEFT", "RIGHT")

    def release() -> None:
        for _ in range(2):
            harness.connection.lmove(keys.coalesced(job_id), keys.rq_queue(queue), "LEFT", "RIGHT")

    claim()
    while_reading(monkeypatch, lambda: None, release)
    assert (harness.audit().handlers[0].waiting, harness.audit().balances) == (3, True)

    claim()
    # Each try reads two queues twice; the second reading of a try finds what the first has missed.
    one_try = (claim, release, claim, claim)
    while_reading(monkeypatch, *one_try * 5)
    sums = harness.audit()
    assert (sums.handlers[0].missing, sums.balances, sums.moving) == (2, False, True)


def test_an_extra_event_is_reported(harness: Harness) -> None:
    harness.accept(status(record("1")))
    harness.expand()
    harness.deliver(taker)

    harness.connection.hincrby(keys.COUNTS, "report.delivered:taker", 1)

    assert harness.audit().handlers[0].missing == -1
    assert not harness.audit().balances


def test_thousands_of_waiting_jobs_are_added_up(harness: Harness) -> None:
    with harness.connection.pipeline() as pipe:
        for n in range(2500):
            pipe.hset(keys.job(str(n)), mapping={"items": 3, "progress": "1"})
            pipe.rpush(keys.rq_queue(queues.EXPAND), str(n))
        pipe.hincrby(keys.COUNTS, "report.received", 7500)
        pipe.hincrby(keys.COUNTS, "report.unique", 2500)
        pipe.execute()

    assert (harness.audit().waiting, harness.audit().missing) == (5000, 0)


def test_a_second_dead_letter_of_an_event_replaces_the_first_which_counts_as_dropped(
    harness: Harness,
) -> None:
    harness.accept(status(record("1", to="rejected")), status(record("2", to="rejected")))
    harness.expand()
    harness.deliver(taker)
    harness.forget_marks()

    harness.accept(status(record("1", to="rejected")))
    harness.expand()
    harness.deliver(taker)

    (at_taker,) = harness.audit().handlers
    assert (at_taker.queued, at_taker.dead, at_taker.dropped, at_taker.missing) == (3, 2, 1, 0)
    assert len(harness.dead_letters("taker")) == at_taker.dead


def test_it_does_so_within_one_settlement_too(harness: Harness) -> None:
    harness.accept(status(record("1", to="rejected")), status(record("1", to="rejected")))
    harness.expand()
    queue = queues.delivery_queue("taker")
    (job_id,) = harness.waiting_jobs(queue)
    copied = queues.new_job_id()
    assert harness.connection.copy(keys.job(job_id), keys.job(copied))
    harness.connection.rpush(keys.rq_queue(queue), copied)
    harness.connection.hincrby(keys.COUNTS, keys.handler_counter("taker", "report", "queued"), 1)

    harness.deliver(taker)

    (at_taker,) = harness.audit().handlers
    assert (at_taker.queued, at_taker.dead, at_taker.dropped, at_taker.missing) == (2, 1, 1, 0)
    assert len(harness.dead_letters("taker")) == 1
