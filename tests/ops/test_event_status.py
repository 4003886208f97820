"""Where an event is at each handler, and what became of each attempt, as far as Redis has it."""

import time
from collections.abc import Iterator
from unittest.mock import ANY

import pytest

from callbacks import ReportEvent, Retry, handler
from shared import keys, queues, sealed_data
from shared.seal_keys import SealKey
from tests.integration.failures.failure_lists import die, ids, refusing
from tests.integration.harness import RECEIVED_MS, Harness, open_harness, record, status
from tests.redis_server import RedisServer, StartRedis
from workers.admin import event_status
from workers.admin.event_status import EventStatus
from workers.failures.failure_list import dead_letters_of
from workers.failures.store import FailureStore

KEY = SealKey(bytes(4), bytes(range(32)))


@handler(ReportEvent)
def other(event: ReportEvent) -> None:
    if event.message_id == "scheduled":
        raise Retry(after_seconds=3600)


@handler(ReportEvent, statuses={"SEEN"})
def choosy(event: ReportEvent) -> None:
    pass


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, refusing, other, choosy) as made:
        yield made


def status_at(harness: Harness, event_id: str, handler: str, *, received_ms: int = RECEIVED_MS) -> EventStatus:
    (found,) = (
        at for at in event_status.find_statuses(harness.connection, {event_id: received_ms}) if at.handler == handler
    )
    return found.statuses[event_id]


def explanation_at(harness: Harness, event_id: str, handler: str, *, received_ms: int = RECEIVED_MS) -> str:
    found = event_status.find_statuses(harness.connection, {event_id: received_ms})
    return next(at.explanations.get(event_id, "") for at in found if at.handler == handler)


def a_minute_ago(harness: Harness) -> int:
    """Return a time at which there was a log."""
    now_ms = int(time.time() * 1000)
    harness.connection.hset(keys.DELIVERY_LOG, "since_ms", now_ms - 120_000)
    return now_ms - 60_000


def only_event(harness: Harness) -> str:
    (event_id,) = harness.waiting_event_ids(refusing)
    return event_id


def offered(harness: Harness, name: str, *, since_ms: int) -> None:
    harness.connection.hset(keys.SUBSCRIPTIONS, name, f"{since_ms}-")


def test_an_event_waits_and_is_then_delivered_at_one_handler_and_dead_at_another(harness: Harness) -> None:
    harness.accept(status(record("1")))
    harness.expand()
    event_id = only_event(harness)
    for name in ("refusing", "other"):
        offered(harness, name, since_ms=RECEIVED_MS)
    assert (status_at(harness, event_id, "refusing"), status_at(harness, event_id, "other")) == ("waiting", "waiting")

    harness.deliver(refusing)
    harness.deliver(other)

    assert (status_at(harness, event_id, "refusing"), status_at(harness, event_id, "other")) == ("dead", "delivered")


def test_an_event_that_failed_is_to_be_tried_later(harness: Harness) -> None:
    harness.accept(status(record("scheduled")))
    harness.expand()
    event_id = only_event(harness)
    harness.deliver(other)

    assert status_at(harness, event_id, "other") == "scheduled"


def test_an_event_in_the_hands_of_a_worker_is_running_also_in_a_job_that_was_taken_along(harness: Harness) -> None:
    for number in range(3):
        harness.accept(status(record(str(number))))
        harness.expand()
    first, second, third = harness.waiting_event_ids(refusing)
    queue = queues.delivery_queue("refusing")
    job, *_ = harness.waiting_jobs(queue)
    harness.connection.lrem(keys.rq_queue(queue), 1, job)
    harness.connection.zadd(keys.rq_started(queue), {f"{job}:execution": 9e12})
    harness.connection.lmove(keys.rq_queue(queue), keys.coalesced(job))

    assert [status_at(harness, one, "refusing") for one in (first, second, third)] == ["running", "running", "waiting"]


def test_an_event_that_is_settled_in_a_job_that_still_runs_does_not_wait(harness: Harness) -> None:
    harness.accept(status(record("1"), record("2")))
    harness.expand()
    first, second = harness.waiting_event_ids(refusing)
    offered(harness, "refusing", since_ms=RECEIVED_MS)
    (job,) = harness.waiting_jobs(queues.delivery_queue("refusing"))
    harness.connection.hset(keys.job(job), "progress", "1")

    assert (status_at(harness, first, "refusing"), status_at(harness, second, "refusing")) == ("delivered", "waiting")


@pytest.mark.parametrize("reason", ["left out by filters", "dropped", "nobody knows since when", "it came before"])
def test_without_a_log_what_is_gone_is_not_called_delivered_where_it_could_be_something_else(
    harness: Harness, reason: str
) -> None:
    harness.log_bytes = 0
    harness.accept(status(record("1")))
    harness.expand()
    event_id = only_event(harness)
    harness.deliver(other)
    offered(harness, "other", since_ms=RECEIVED_MS)
    assert status_at(harness, event_id, "other") == "delivered"

    if reason == "left out by filters":
        harness.connection.hset(keys.COUNTS, keys.handler_counter("other", "report", "filtered"), 1)
    elif reason == "dropped":
        harness.connection.hset(keys.COUNTS, keys.handler_counter("other", "reply", "dropped"), 1)
    elif reason == "nobody knows since when":
        harness.connection.hset(keys.SUBSCRIPTIONS, "other", "?")
    else:
        offered(harness, "other", since_ms=RECEIVED_MS + 1)

    assert status_at(harness, event_id, "other") == "unlogged"


def test_what_a_handler_does_not_want_is_not_called_delivered(harness: Harness) -> None:
    harness.accept(status(record("1")), status(record("2", status="SEEN")))
    harness.expand()
    excluded, _ = harness.waiting_event_ids(refusing)
    offered(harness, "choosy", since_ms=RECEIVED_MS)
    harness.deliver(choosy)
    assert status_at(harness, excluded, "choosy") == "unlogged"
    assert explanation_at(harness, excluded, "choosy").startswith(
        "delivered, or left out by its filters (older than the delivery log, which goes back to 20"
    )

    at = a_minute_ago(harness)
    assert status_at(harness, excluded, "choosy", received_ms=at) == "untried"
    assert explanation_at(harness, excluded, "choosy", received_ms=at) == "left out by its filters"


def test_the_log_says_what_became_of_an_event_whatever_the_counters_leave_open(harness: Harness) -> None:
    harness.accept(status(record("1", status="SEEN")), status(record("2")))
    harness.expand()
    wanted, excluded = harness.waiting_event_ids(refusing)
    harness.deliver(choosy)
    harness.connection.hset(keys.COUNTS, keys.handler_counter("choosy", "report", "dropped"), 1)

    assert status_at(harness, wanted, "choosy") == "delivered"
    assert status_at(harness, excluded, "choosy") == "unlogged"


def test_a_dead_letter_that_was_dropped_is_called_that(harness: Harness) -> None:
    die(harness, "1")
    (event_id,) = ids(harness, keys.dead("refusing"))
    assert status_at(harness, event_id, "refusing") == "dead"

    list(FailureStore(harness.connection).drop(dead_letters_of("refusing"), [event_id]))

    assert status_at(harness, event_id, "refusing") == "dropped"


def test_without_a_log_it_says_so(harness: Harness) -> None:
    harness.log_bytes = 0
    harness.accept(status(record("1")))
    harness.expand()
    event_id = only_event(harness)
    harness.deliver(other)

    assert status_at(harness, event_id, "other") == "unlogged"
    assert "CALLBACKS_DELIVERY_LOG_BYTES is 0" in explanation_at(harness, event_id, "other")


def test_of_a_queue_with_more_jobs_than_can_be_looked_through_it_says_so(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_status, "MAX_JOBS", 5)
    for number in range(8):
        harness.accept(status(record(str(number))))
        harness.expand()
    oldest, *_, newest = harness.waiting_event_ids(refusing)

    assert status_at(harness, newest, "refusing") == "waiting"
    assert status_at(harness, oldest, "refusing") == "unlogged"
    assert "waiting in the queue, which is too long" in explanation_at(harness, "0badc0de", "refusing")
    # With the log it is certain: the event was not tried, so it waits.
    harness.deliver(other)
    offered(harness, "refusing", since_ms=RECEIVED_MS)
    assert status_at(harness, oldest, "refusing", received_ms=a_minute_ago(harness)) == "waiting"


def test_of_a_queue_with_larger_jobs_than_can_be_read_it_says_so(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.accept(status(record("1")))
    harness.expand()
    event_id = only_event(harness)
    assert status_at(harness, event_id, "refusing") == "waiting"
    monkeypatch.setattr(event_status, "MAX_BYTES", 100)

    before = harness.connection.info("stats")["total_net_output_bytes"]
    assert status_at(harness, event_id, "refusing") == "unlogged"
    assert harness.connection.info("stats")["total_net_output_bytes"] - before < 20_000


def test_a_job_of_a_newer_release_hides_no_other(harness: Harness) -> None:
    for number in range(2):
        harness.accept(status(record(str(number))))
        harness.expand()
    _, other_id = harness.waiting_event_ids(refusing)
    newer, _ = harness.waiting_jobs(queues.delivery_queue("refusing"))
    harness.connection.hset(keys.job(newer), "data", queues.encode_call("workers.jobs.deliver", (99, {})))

    assert status_at(harness, other_id, "refusing") == "waiting"


def test_an_event_in_a_job_whose_key_is_missing_is_not_called_gone(harness: Harness) -> None:
    sealed_data.use([KEY])
    try:
        harness.accept(status(record("scheduled"), record("1")))
        harness.expand()
        scheduled, waiting = harness.waiting_event_ids(other)
        harness.deliver(other)
        offered(harness, "refusing", since_ms=RECEIVED_MS)
        received_ms = a_minute_ago(harness)
    finally:
        sealed_data.use([])

    assert status_at(harness, scheduled, "other", received_ms=received_ms) == "scheduled"
    assert status_at(harness, waiting, "refusing") == "unlogged"
    explanation = explanation_at(harness, waiting, "refusing")
    assert f"waiting in a job that cannot be read (sealed with key {KEY.id.hex()}, and " in explanation
    assert "too long" not in explanation


def test_while_redis_is_full_it_is_told_anyway(start_redis: StartRedis) -> None:
    with open_harness(start_redis().url, refusing) as harness:
        harness.accept(status(record("1")))
        harness.expand()
        event_id = only_event(harness)
        harness.connection.config_set("maxmemory", "1")

        assert status_at(harness, event_id, "refusing") == "waiting"


def test_nothing_is_asked_for_no_events(harness: Harness) -> None:
    die(harness, "1")
    assert ids(harness, keys.dead("refusing")) == [ANY]
    assert event_status.find_statuses(harness.connection, {}) == []
