"""Events that several handlers want are stored once, and deleted with the last job that needs them."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rq.job import Job

from callbacks import ReportEvent, handler
from shared import keys, queue_jobs, queues
from tests.integration.harness import HandlerTotals, Harness, due_now, open_harness, record, status
from tests.integration.runtime.pools import Command, until
from tests.redis_server import RedisServer
from workers.admin import event_status, queue_state
from workers.admin.purge import Purger
from workers.admin.retry_rows import RetryFilter
from workers.admin.scheduled_retries import ScheduledRetries
from workers.deliver.round import Round
from workers.expand import expansion
from workers.failures import failed_jobs
from workers.runtime import job_transitions
from workers.runtime.claim import ClaimStep
from workers.runtime.headroom import FailureLimit
from workers.runtime.portions import PortionReaper
from workers.runtime.worker import QueueWorker

Function = Callable[[ReportEvent], None]

STATUSES = ("DELIVRD", "SEEN", "UNDELIV")
# What the handlers want, in turn: all of it, a part, another part, and what no other wants.
WANTED = (set(STATUSES), {"DELIVRD"}, {"SEEN", "UNDELIV"}, {"SEEN"}, {"EXPIRED"})
MISSING = "Events of the job are missing"

called: Counter[tuple[str, str]] = Counter()
failing: set[tuple[str, str]] = set()


def handler_number(number: int) -> Function:
    @handler(ReportEvent, name=f"h{number}", statuses=WANTED[number % len(WANTED)], attempts=3)
    def taker(event: ReportEvent) -> None:
        called[f"h{number}", event.message_id] += 1
        if (f"h{number}", event.message_id) in failing:
            raise RuntimeError("not today")

    return taker


HANDLERS = tuple(handler_number(number) for number in range(12))
first, second = both = (HANDLERS[0], HANDLERS[5])


@pytest.fixture(autouse=True)
def _no_wait_and_no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_transitions, "MAX_WAIT_SECONDS", 0)
    called.clear()
    failing.clear()


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    """Return a service with two handlers that want all events."""
    with open_harness(quick_redis.url, *both) as made:
        yield made


def accept_and_expand(harness: Harness, *message_ids: str) -> None:
    harness.accept(status(*(record(message_id) for message_id in message_ids)))
    harness.expand()


def reports(number: int) -> list[dict[str, Any]]:
    return [record(str(n), (*STATUSES, "EXPIRED")[n % 4]) for n in range(number)]


def portions(harness: Harness) -> dict[bytes, int]:
    """Return how many jobs need each portion."""
    assert set(harness.connection.hkeys(keys.PORTIONS)) == set(harness.connection.hkeys(keys.PORTION_JOBS))
    return {name: int(jobs) for name, jobs in harness.connection.hgetall(keys.PORTION_JOBS).items()}


def work(harness: Harness, function: Function, *, rounds: int = 8) -> None:
    """Deliver, and promote what is scheduled, until nothing is left to do."""
    for _ in range(rounds):
        harness.deliver(function)
        due_now(harness, function)


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


@pytest.mark.parametrize("index", [0, 1], ids=["first", "coalesced"])
def test_events_that_somebody_deleted_are_logged_and_kept_as_a_dead_letter(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, index: int
) -> None:
    monkeypatch.setattr(failed_jobs, "MAX_FAILURES", 4)
    monkeypatch.setattr("workers.deliver.prefetch.Prefetcher._prefetch_count", lambda _self: 100)
    for n in range(3):
        accept_and_expand(harness, f"{n}a", f"{n}b")
    job_id = harness.waiting_jobs("deliver-h0")[index]
    harness.connection.hdel(keys.PORTIONS, harness.connection.hget(keys.job(job_id), "portions"))

    work(harness, first)

    assert harness.totals(first) == HandlerTotals(delivered=4, dead=2)
    assert "action=job_failed" in caplog.text
    assert "error=EventsMissing" in caplog.text
    (letter,) = harness.dead_letters("h0")
    assert MISSING in letter["error"] + letter["traceback"]
    assert harness.connection.hlen(keys.PORTION_JOBS) == 3, "those of the other handler's jobs"
    work(harness, second)
    assert harness.totals(second) == HandlerTotals(delivered=4, dead=2)
    assert harness.audit().balances
    assert harness.leftover_keys() == set()


def test_a_missing_portion_takes_none_of_the_others_from_the_dead_letter(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_jobs, "MAX_FAILURES", 1)
    for n in range(3):
        accept_and_expand(harness, f"{n}a", f"{n}b")
    job_id, *others = harness.waiting_jobs("deliver-h0")
    names = [harness.connection.hget(keys.job(one), "portions") for one in (job_id, *others)]
    texts = harness.connection.hmget(keys.PORTIONS, names)
    harness.connection.hset(keys.job(job_id), mapping={"portions": b" ".join(names), "items": 6})
    for name in names[1:]:
        harness.connection.hincrby(keys.PORTION_JOBS, name, 1)
    harness.connection.hdel(keys.PORTIONS, names[1])

    harness.deliver(first, max_jobs=1)

    (letter_id,) = harness.connection.zrange(keys.dead("h0"), 0, -1)
    event, records = harness.connection.hmget(keys.dead_letter("h0", letter_id.decode()), "event", "records")
    assert records == b"6"
    assert texts[0] in event
    assert texts[2] in event


def test_what_a_dead_worker_finished_of_missing_events_is_purged_as_delivered(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2", "3")
    (job_id,) = harness.waiting_jobs("deliver-h0")
    harness.connection.hset(keys.job(job_id), mapping={"progress": "1", "finished": "2;0,1;"})
    harness.connection.delete(keys.PORTIONS)

    assert sum(purged.events for purged in Purger(harness.connection, "h0").run()) == 2

    assert harness.counters()["unknown.delivered:h0"] == 1
    assert harness.counters()["unknown.dropped:h0"] == 1


def test_events_that_somebody_deleted_can_be_purged(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    harness.connection.delete(keys.PORTIONS)

    assert [(purged.events, purged.unreadable) for purged in Purger(harness.connection, "h0").run()] == [(2, 0)]

    assert harness.totals(first) == HandlerTotals()
    assert harness.audit().balances


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
                    own_arguments=queues.parse_arguments(harness.connection.hget(keys.job(job_id), "data")),
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


def test_a_run_does_not_coalesce_a_job_whose_events_are_missing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.deliver.prefetch.Prefetcher._prefetch_count", lambda _self: 100)
    for n in range(3):
        accept_and_expand(harness, str(n))
    job_id = harness.waiting_jobs("deliver-h0")[1]
    harness.connection.hdel(keys.PORTIONS, harness.connection.hget(keys.job(job_id), "portions"))

    harness.deliver(first, max_jobs=1)

    assert [name for _, name in called] == ["0"]
    assert harness.waiting_jobs("deliver-h0")[0] == job_id


def test_a_portion_whose_number_was_deleted_stays_and_is_counted_anew(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    before = portions(harness)
    harness.connection.delete(keys.PORTION_JOBS)

    harness.deliver(first)

    assert harness.connection.hlen(keys.PORTIONS) == 1
    PortionReaper(harness.connection).tick()
    assert portions(harness) == dict.fromkeys(before, 1)
    harness.deliver(second)
    assert harness.totals(second) == HandlerTotals(delivered=2)
    assert harness.leftover_keys() == set()


def test_portions_of_jobs_that_somebody_deleted_are_reaped_and_no_others(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    reaper = PortionReaper(harness.connection)
    for n in range(3):
        accept_and_expand(harness, str(n))
    before = portions(harness)
    (of_h0, *_), (of_h5, *_) = harness.waiting_jobs("deliver-h0"), harness.waiting_jobs("deliver-h5")
    harness.connection.delete(keys.job(of_h0))

    reaper.tick()

    assert sorted(portions(harness).values()) == [1, 2, 2]
    harness.connection.delete(keys.job(of_h5))
    reaper.tick()
    assert sorted(portions(harness).values()) == [2, 2]
    assert portions(harness).keys() < before.keys()
    assert "action=portions_reaped portions=1" in caplog.text
    for function in both:
        harness.deliver(function)
        assert harness.totals(function).delivered == 2
    assert not portions(harness)


def test_a_reaper_that_found_some_goes_on_soon(harness: Harness) -> None:
    # No job of ours has these, as after `rq empty` of a long queue.
    for key in (keys.PORTIONS, keys.PORTION_JOBS):
        harness.connection.hset(key, mapping={f"{number:032x}-1-1": 1 for number in range(600)})
    reaper = PortionReaper(harness.connection)

    ticks = 0
    while portions(harness):
        until(lambda: reaper.is_due, "the next tick")
        reaper.tick()
        ticks += 1
        assert ticks < 100

    assert not harness.connection.exists(keys.PORTION_JOBS)


def test_a_running_service_reaps_them_by_itself(harness: Harness, tmp_path: Path) -> None:
    accept_and_expand(harness, "1")
    for name in ("h0", "h5"):
        harness.connection.delete(
            keys.rq_queue(f"deliver-{name}"), keys.job(harness.waiting_jobs(f"deliver-{name}")[0])
        )
    assert portions(harness)

    command = Command(harness, tmp_path / "log", "deliver", "--handler", "single")
    try:
        until(lambda: "action=portions_reaped portions=1" in command.log, "the portion is deleted")
    finally:
        command.end()
    assert not portions(harness)


def test_a_reaper_passes_by_names_that_this_release_does_not_give(harness: Harness) -> None:
    names = ("of tomorrow", "ab-99999999999-1", "-1-1")
    for key in (keys.PORTIONS, keys.PORTION_JOBS):
        harness.connection.hset(key, mapping=dict.fromkeys(names, 1))

    PortionReaper(harness.connection).tick()

    assert portions(harness) == {name.encode(): 1 for name in names}


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
