"""What workers of `callbacks dev` publish of each event: that it is new or a repeat, and what became of it."""

import time
from collections.abc import Iterator

import pytest

from callbacks import Pause, Reject, ReplyEvent, ReportEvent, Retry, handler
from callbacks.cli.activity_feed import ActivityFeed
from tests.integration.harness import Harness, open_harness, statuses
from tests.integration.scripted_handlers import accept_and_expand, other, script, single, whole
from tests.redis_server import RedisServer
from workers.activity import Activity, CallResult, NewEvent, PauseChanged, RepeatedEvent, UnreadableRecords


@handler(ReplyEvent)
def chat(event: ReplyEvent) -> None:
    """Want no reports."""


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, single, other, chat, whole) as made:
        made.is_watched = True
        yield made


@pytest.fixture
def feed(harness: Harness) -> Iterator[ActivityFeed]:
    with ActivityFeed(harness.url) as listening:
        listening.read(wait_seconds=0.1)
        yield listening


def read(feed: ActivityFeed, number: int) -> list[Activity]:
    """Return this number of items, and all that come with them."""
    found: list[Activity] = []
    deadline = time.monotonic() + 30
    while len(found) < number:
        assert time.monotonic() < deadline, found
        found += feed.read(wait_seconds=0.1)
    return found


def results(feed: ActivityFeed, number: int) -> list[CallResult]:
    return [item for item in read(feed, number) if isinstance(item, CallResult)]


def test_new_events_name_the_handlers_that_want_them_and_repeats_are_named(
    harness: Harness, feed: ActivityFeed
) -> None:
    accept_and_expand(harness, "1")
    (new,) = read(feed, 1)
    assert isinstance(new, NewEvent)
    assert (new.event.kind, new.event.message_id, new.handlers) == ("report", "1", ("single", "other", "whole"))

    accept_and_expand(harness, "1", "2", "2")

    again, second, at_once = read(feed, 3)
    assert isinstance(again, RepeatedEvent)
    assert again.event.id == new.event.id
    assert isinstance(second, NewEvent)
    assert isinstance(at_once, RepeatedEvent)


def test_records_that_cannot_be_read_are_reported(harness: Harness, feed: ActivityFeed) -> None:
    (accepted,) = statuses(["1"])
    harness.accept(type(accepted)(accepted.kind, accepted.source, accepted.received_ms, 1, '{"data":[{"status":7}]}'))
    harness.expand()

    (unreadable,) = read(feed, 1)
    assert isinstance(unreadable, UnreadableRecords)
    assert "message_id" in unreadable.error


def test_a_result_has_the_attempt_the_error_and_what_comes_next(harness: Harness, feed: ActivityFeed) -> None:
    accept_and_expand(harness, "1", "2", "3", "4")
    read(feed, 4)

    def act(event: ReportEvent) -> None:
        if event.message_id == "2":
            raise LookupError(f"no account for {event.recipient}")
        if event.message_id == "3":
            raise Retry(60, reason="shop is closed")
        if event.message_id == "4":
            raise Reject("no such order")

    script.act = act
    harness.deliver(single)

    found = {result.event.message_id: result for result in results(feed, 4)}
    assert {key: (one.outcome, one.attempt) for key, one in found.items()} == {
        "1": ("delivered", 1),
        "2": ("retried", 1),
        "3": ("retried", 1),
        "4": ("dead", 1),
    }
    assert all(one.call_ms is not None for one in found.values())
    assert found["2"].error == "LookupError: no account for 356*****001"
    assert (found["2"].after_seconds or 0) < 2
    assert found["3"].error == "shop is closed"
    assert 50 < (found["3"].after_seconds or 0) <= 60
    assert (found["4"].error, found["4"].is_rejected) == ("no such order", True)


def test_each_event_of_a_batch_has_a_result(harness: Harness, feed: ActivityFeed) -> None:
    accept_and_expand(harness, "1", "2")
    read(feed, 2)

    harness.deliver(whole)

    assert sorted(one.event.message_id for one in results(feed, 2)) == ["1", "2"]


def test_a_pause_is_reported(harness: Harness, feed: ActivityFeed) -> None:
    accept_and_expand(harness, "1")
    read(feed, 1)

    def act(event: ReportEvent) -> None:
        raise Pause(30, reason="answered 503")

    script.act = act
    harness.deliver(single)

    assert read(feed, 1) == [PauseChanged("single", True, 30.0, "answered 503")]


def test_other_workers_publish_nothing(harness: Harness, feed: ActivityFeed) -> None:
    harness.is_watched = False
    accept_and_expand(harness, "1")
    harness.deliver(single)

    harness.is_watched = True
    accept_and_expand(harness, "2")
    assert [item.event.message_id for item in read(feed, 1) if isinstance(item, NewEvent)] == ["2"]
