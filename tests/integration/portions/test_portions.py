"""Events that several handlers want are stored once, and deleted with the last job that needs them."""

from typing import Any

import pytest
from rq.job import Job

from shared import keys, queue_jobs, queues
from tests.integration.harness import HandlerTotals, Harness, due_now, open_harness, record, status
from tests.integration.portions.sharing_handlers import (
    HANDLERS,
    STATUSES,
    WANTED,
    accept_and_expand,
    both,
    called,
    failing,
    first,
    handler_number,
    portions,
    second,
    work,
)
from tests.redis_server import RedisServer
from workers.admin import event_status, queue_state
from workers.admin.purge import Purger
from workers.admin.retry_rows import RetryFilter
from workers.admin.scheduled_retries import ScheduledRetries
from workers.deliver.round import Round
from workers.expand import expansion
from workers.failures import failed_jobs
from workers.runtime.claim import ClaimStep
from workers.runtime.headroom import FailureLimit
from workers.runtime.worker import QueueWorker


def reports(number: int) -> list[dict[str, Any]]:
    return [record(str(n), (*STATUSES, "EXPIRED")[n % 4]) for n in range(number)]


@pytest.mark.parametrize("number", [1, 2, 12])
def test_each_handler_gets_the_events_that_it_wants_once(quick_redis: RedisServer, number: int) -> None:
    functions = HANDLERS[:number]
    given = reports(450)
    with open_harness(quick_redis.url, *functions) as harness:
        for at in range(0, len(given), 50):
            harness.accept(status(*given[at : at + 50]))
        harness.accept(status(*given[:50]))
        harness.expand()

        assert bool(portions(harness)) == (number > 1), "a handler that is alone has its events in its jobs"
        assert harness.leftover_keys() == {
            key.decode() for pattern in ("rq:job:*", "rq:queue:*") for key in harness.connection.scan_iter(pattern)
        }
        sizes = [
            int(harness.connection.hget(keys.job(job), "items"))
            for n in range(number)
            for job in harness.waiting_jobs(f"deliver-h{n}")
        ]
        assert max(sizes) <= expansion.EVENTS_PER_DELIVERY
        for function in functions:
            harness.deliver(function)

        expected = {
            (f"h{n}", one["message_id"]): 1
            for n in range(number)
            for one in given
            if one["status"] in WANTED[n % len(WANTED)]
        }
        assert called == expected
        assert harness.audit().balances
        assert harness.leftover_keys() == set()


def test_what_a_handler_alone_wants_and_what_others_want_too_come_in_one_job(quick_redis: RedisServer) -> None:
    with open_harness(quick_redis.url, HANDLERS[0], HANDLERS[1]) as harness:
        harness.accept(status(*reports(8)))
        harness.expand()

        (job_id,) = harness.waiting_jobs("deliver-h0")
        assert sorted(event.message_id for event in harness.waiting_events(HANDLERS[0])[0]) == [
            "0",
            "1",
            "2",
            "4",
            "5",
            "6",
        ]
        assert harness.connection.hget(keys.job(job_id), "data").count(b'["s"') == 4
        assert list(portions(harness).values()) == [2]


def test_twelve_handlers_that_want_the_same_store_each_event_once(quick_redis: RedisServer) -> None:
    functions = [handler_number(len(WANTED) * n) for n in range(12)]
    with open_harness(quick_redis.url, *functions) as harness:
        accept_and_expand(harness, *(f"m-{n}" for n in range(30)))

        texts = harness.connection.hvals(keys.PORTIONS)
        assert [text.count(b'["s"') for text in texts] == [30]
        ids = [job for n in range(12) for job in harness.waiting_jobs(f"deliver-h{len(WANTED) * n}")]
        assert all(b'["s"' not in harness.connection.hget(keys.job(job_id), "data") for job_id in ids)
        assert queue_jobs.limit_by_bytes(harness.connection, ids, int(2.5 * len(texts[0]))) == ids[:2], (
            "what a reader gets of a job is as large as without portions"
        )


def test_a_portion_stays_until_its_last_job_ends_however_the_jobs_end(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    accept_and_expand(harness, "3", "4")
    assert list(portions(harness).values()) == [2, 2]

    harness.deliver(first)

    assert list(portions(harness).values()) == [1, 1]
    (step,) = {purged.events for purged in Purger(harness.connection, "h5").run() if purged.events}
    assert step == 4
    assert not portions(harness)
    assert harness.totals(first) == HandlerTotals(delivered=4)
    assert harness.leftover_keys() == set()
    assert harness.audit().balances


def test_a_retry_has_its_own_event_when_the_portion_is_deleted(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2", "3")
    failing.add(("h0", "2"))

    harness.deliver(first)
    harness.deliver(second)

    assert not portions(harness)
    (row,) = ScheduledRetries(harness.connection).iterate(RetryFilter())
    assert (row.message_id, row.attempt) == ("2", 2)
    failing.clear()
    due_now(harness, first)
    harness.deliver(first)
    assert called["h0", "2"] == 2
    assert harness.leftover_keys() == set()


def test_a_job_that_fails_as_a_whole_is_listed_split_and_moved_to_the_failures(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_jobs, "MAX_FAILURES", 4)
    accept_and_expand(harness, "1", "2", "3")
    with monkeypatch.context() as broken:
        broken.setattr("workers.deliver.delivery.Deliverer._call", lambda *_: 1 / 0)
        harness.deliver(first)
        (row,) = ScheduledRetries(harness.connection).iterate(RetryFilter(message="3"))
        assert (row.message_id, row.events) == ("3", 3)
        assert list(portions(harness).values()) == [2]
        due_now(harness, first)
        harness.deliver(first)
        assert list(portions(harness).values()) == [1], "each event is in a job of its own now"
        work(harness, first, rounds=4)

    assert harness.totals(first) == HandlerTotals(dead=3)
    assert {letter["kind"] for letter in harness.dead_letters("h0")} == {"report"}
    harness.deliver(second)
    assert harness.totals(second) == HandlerTotals(delivered=3)
    assert harness.leftover_keys() == set()


def test_operators_see_the_waiting_events(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    event_ids = dict.fromkeys(harness.waiting_event_ids(first), 0)
    harness.deliver(second)

    found = {
        one.handler: set(one.statuses.values()) for one in event_status.find_statuses(harness.connection, event_ids)
    }

    assert found["h0"] == {"waiting"}
    assert found["h5"] <= {"delivered", "gone"}
    state = queue_state.read_state(harness.connection, "h0")
    assert (state.waiting, state.jobs) == (2, 1)
    assert state.oldest_at is not None


def test_a_worker_that_ends_after_the_last_settlement_leaves_a_job_that_ends(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    harness.deliver(second)
    (job_id,) = harness.waiting_jobs("deliver-h0")

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(QueueWorker, "_finalize_success", lambda *_: None)
        harness.deliver(first)

    assert harness.waiting_jobs("deliver-h0") == [job_id]
    assert harness.connection.hget(keys.job(job_id), "progress") == b"2"
    assert not portions(harness)
    accept_and_expand(harness, "3")
    harness.deliver(first)
    harness.deliver(second)
    assert called == {(each, n): 1 for each in ("h0", "h5") for n in "123"}
    assert harness.leftover_keys() == set()


def test_what_a_handler_delivers_makes_room_only_if_no_other_has_it(
    quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr(FailureLimit, "add_delivered", lambda _limit, number: counted.append(number))
    with open_harness(quick_redis.url, HANDLERS[0], HANDLERS[1]) as harness:
        accept_and_expand(harness, "1")
        harness.accept(status(record("2", "SEEN")))
        harness.expand()

        rounds = [
            Round(
                ClaimStep(harness.connection, "deliver-h0").claim(
                    job_id=job_id,
                    worker="",
                    own_arguments=harness.enter_as_running(job_id, ""),
                    max_items=1,
                    max_bytes=1,
                ),
                job_id=job_id,
                worker="",
            )
            for job_id in harness.waiting_jobs("deliver-h0")
        ]

        assert [[event.id for event in each.events] for each in rounds] == [
            [event_id] for event_id in harness.waiting_event_ids(HANDLERS[0])
        ]
        assert [each.makes_room for each in rounds] == [False, True]

        harness.deliver(HANDLERS[0], max_jobs=1)
        harness.deliver(HANDLERS[0])
        assert counted == [1]


@pytest.mark.parametrize("key", [keys.PORTIONS, keys.PORTION_JOBS])
def test_a_key_of_another_type_stops_a_fan_out_before_its_first_mark(harness: Harness, key: str) -> None:
    harness.connection.set(key, "x")
    accept_and_expand(harness, "1")
    assert not harness.marks()

    harness.connection.delete(key)
    keeper = harness.maintenance()
    keeper.tick([])
    keeper.close()
    harness.expand()
    for function in both:
        harness.deliver(function)

    assert called == {("h0", "1"): 1, ("h5", "1"): 1}
    assert harness.leftover_keys() == set()


def test_a_job_that_rq_has_written_anew_still_has_its_events(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    (job_id,) = harness.waiting_jobs("deliver-h0")
    Job.fetch(job_id, connection=harness.connection, serializer=queues.JsonSerializer).save()

    harness.deliver(first)

    assert sorted(called) == [("h0", "1"), ("h0", "2")]
