"""Where an event is at each handler: told as far as Redis tells it, and no further."""

from collections.abc import Iterator
from unittest.mock import ANY

import pytest

from callbacks import ReportEvent, Retry, handler
from shared import keys, queues
from tests.conftest import StartRedis
from tests.integration.shelves import die, ids, refusing
from tests.integration.workbench import (  # noqa: F401
    RECEIVED_MS,
    Bench,
    _quick_server,
    bench,
    quick_redis,
    record,
    status,
)
from tests.redis_server import RedisServer
from workers.admin import event_status
from workers.admin.event_status import EventStatus


@handler(ReportEvent)
def other(event: ReportEvent) -> None:
    if event.message_id == "scheduled":
        raise Retry(after_seconds=3600)


@handler(ReportEvent, statuses={"SEEN"})
def choosy(event: ReportEvent) -> None:
    pass


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    with bench(quick_redis.url, refusing, other, choosy) as made:
        yield made


def status_at(b: Bench, event_id: str, handler: str) -> EventStatus:
    (found,) = (at for at in event_status.find_statuses(b.connection, {event_id: RECEIVED_MS}) if at.handler == handler)
    return found.statuses[event_id]


def only_event(b: Bench) -> str:
    (event_id,) = b.waiting_at(refusing)
    return event_id


def offered(b: Bench, name: str, *, since_ms: int) -> None:
    b.connection.hset(keys.SUBSCRIPTIONS, name, f"{since_ms}-")


def test_an_event_waits_and_is_then_delivered_at_one_handler_and_dead_at_another(b: Bench) -> None:
    b.keep(status(record("1")))
    b.expand()
    event_id = only_event(b)
    for name in ("refusing", "other"):
        offered(b, name, since_ms=RECEIVED_MS)
    assert (status_at(b, event_id, "refusing"), status_at(b, event_id, "other")) == ("waiting", "waiting")

    b.deliver(refusing)
    b.deliver(other)

    assert (status_at(b, event_id, "refusing"), status_at(b, event_id, "other")) == ("dead", "delivered")


def test_an_event_that_failed_is_to_be_tried_later(b: Bench) -> None:
    b.keep(status(record("scheduled")))
    b.expand()
    event_id = only_event(b)
    b.deliver(other)

    assert status_at(b, event_id, "other") == "scheduled"


def test_an_event_in_the_hands_of_a_worker_is_running_also_in_a_job_that_was_taken_along(b: Bench) -> None:
    for number in range(3):
        b.keep(status(record(str(number))))
        b.expand()
    first, second, third = b.waiting_at(refusing)
    queue = queues.delivery_queue("refusing")
    job, *_ = b.waiting(queue)
    b.connection.lrem(keys.rq_queue(queue), 1, job)
    b.connection.zadd(keys.rq_started(queue), {f"{job}:execution": 9e12})
    b.connection.lmove(keys.rq_queue(queue), keys.coalesced(job))

    assert [status_at(b, one, "refusing") for one in (first, second, third)] == ["running", "running", "waiting"]


def test_an_event_that_is_settled_in_a_job_that_still_runs_does_not_wait(b: Bench) -> None:
    b.keep(status(record("1"), record("2")))
    b.expand()
    first, second = b.waiting_at(refusing)
    offered(b, "refusing", since_ms=RECEIVED_MS)
    (job,) = b.waiting(queues.delivery_queue("refusing"))
    b.connection.hset(keys.job(job), "progress", "1")

    assert (status_at(b, first, "refusing"), status_at(b, second, "refusing")) == ("delivered", "waiting")


@pytest.mark.parametrize("reason", ["left out by filters", "dropped", "nobody knows since when", "it came before"])
def test_what_is_gone_is_not_called_delivered_where_it_could_be_something_else(b: Bench, reason: str) -> None:
    b.keep(status(record("1")))
    b.expand()
    event_id = only_event(b)
    b.deliver(other)
    offered(b, "other", since_ms=RECEIVED_MS)
    assert status_at(b, event_id, "other") == "delivered"

    if reason == "left out by filters":
        b.connection.hset(keys.COUNTS, keys.handler_counter("other", "report", "filtered"), 1)
    elif reason == "dropped":
        b.connection.hset(keys.COUNTS, keys.handler_counter("other", "reply", "dropped"), 1)
    elif reason == "nobody knows since when":
        b.connection.hset(keys.SUBSCRIPTIONS, "other", "0-")
    else:
        offered(b, "other", since_ms=RECEIVED_MS + 1)

    assert status_at(b, event_id, "other") == "gone"


def test_what_a_handler_does_not_want_is_not_called_delivered(b: Bench) -> None:
    b.keep(status(record("1")), status(record("2", status="SEEN")))
    b.expand()
    unwanted, _ = b.waiting_at(refusing)
    offered(b, "choosy", since_ms=RECEIVED_MS)
    b.deliver(choosy)

    assert status_at(b, unwanted, "choosy") == "gone"


def test_of_a_queue_with_more_jobs_than_can_be_looked_through_it_says_so(
    b: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_status, "MAX_JOBS", 5)
    for number in range(8):
        b.keep(status(record(str(number))))
        b.expand()
    oldest, *_, newest = b.waiting_at(refusing)

    assert status_at(b, newest, "refusing") == "waiting"
    assert status_at(b, oldest, "refusing") == "unknown"
    assert status_at(b, "0badc0de", "refusing") == "unknown"


def test_of_a_queue_with_larger_jobs_than_can_be_read_it_says_so(b: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    b.keep(status(record("1")))
    b.expand()
    event_id = only_event(b)
    assert status_at(b, event_id, "refusing") == "waiting"
    monkeypatch.setattr(event_status, "MAX_BYTES", 100)

    before = b.connection.info("stats")["total_net_output_bytes"]
    assert status_at(b, event_id, "refusing") == "unknown"
    assert b.connection.info("stats")["total_net_output_bytes"] - before < 20_000


def test_a_job_of_a_newer_release_hides_no_other(b: Bench) -> None:
    for number in range(2):
        b.keep(status(record(str(number))))
        b.expand()
    _, other_id = b.waiting_at(refusing)
    newer, _ = b.waiting(queues.delivery_queue("refusing"))
    b.connection.hset(keys.job(newer), "data", queues.encode_call("workers.jobs.deliver", (99, {})))

    assert status_at(b, other_id, "refusing") == "waiting"


def test_while_redis_is_full_it_is_told_all_the_same(start_redis: StartRedis) -> None:
    with bench(start_redis().url, refusing) as b:
        b.keep(status(record("1")))
        b.expand()
        event_id = only_event(b)
        b.connection.config_set("maxmemory", "1")

        assert status_at(b, event_id, "refusing") == "waiting"


def test_nothing_is_asked_for_no_events(b: Bench) -> None:
    die(b, "1")
    assert ids(b, keys.dead("refusing")) == [ANY]
    assert event_status.find_statuses(b.connection, {}) == []
