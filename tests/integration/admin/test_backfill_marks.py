"""A backfill knows by an event's mark to which handlers it was offered, also if the lifetime of marks has changed."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import redis

from callbacks import ReportEvent, handler, samples
from shared import keys
from tests import marks
from tests.integration.harness import open_harness
from tests.redis_server import RedisServer
from workers.admin import forget
from workers.admin.backfill import Backfill, BackfillStep
from workers.expand.fan_out import FanOutStep
from workers.expand.subscriptions import Subscriptions
from workers.runtime.settlement import FanOutEvents

HOUR = 3600
DAY = 24 * HOUR


@handler(ReportEvent)
def new(event: ReportEvent) -> None:
    """Take reports."""


def mark(client: Any, event: ReportEvent, *handlers: str, seconds: int = DAY) -> None:
    """Mark an event as seen, as workers with these handlers do."""
    client.hset(keys.job("run"), "data", "")
    FanOutStep(client).fan_out(
        run_id="run",
        settlements=[],
        mark_seconds=seconds,
        handlers=handlers,
        max_events=100,
        events=[FanOutEvents("report", "0" * len(handlers), [event.id], [b""])],
        unreadable=[],
    )


def received(client: Any, *, hours_ago: float) -> ReportEvent:
    now = datetime.fromtimestamp(client.time()[0], UTC)
    return msgspec.structs.replace(samples.report(), received_at=now - timedelta(hours=hours_ago))


def backfill(client: Any, event: ReportEvent) -> BackfillStep:
    """Enqueue the event for a handler that was subscribed an hour ago."""
    offered = Subscriptions((((client.time()[0] - HOUR) * 1000, math.inf),))
    (step,) = Backfill(client, "new", offers=offered).enqueue([event])
    return step


@pytest.mark.parametrize(("handlers", "is_offered"), [(("new", "old"), True), (("newer", "old"), False), ((), False)])
@pytest.mark.parametrize("hours_ago", [0.5, 2])
def test_an_event_that_has_its_mark_was_offered_to_the_handlers_that_its_workers_had(
    quick_redis: RedisServer, handlers: tuple[str, ...], is_offered: bool, hours_ago: float
) -> None:
    with open_harness(quick_redis.url) as harness:
        event = received(harness.connection, hours_ago=hours_ago)
        mark(harness.connection, event, *handlers)

        step = backfill(harness.connection, event)

        assert (step.enqueued, step.already_fanned_out) == ((0, 1) if is_offered else (1, 0))


@pytest.mark.parametrize(("seconds", "then"), [(DAY, 7 * DAY), (7 * DAY, DAY)])
def test_a_changed_lifetime_ends_no_earlier_mark_and_makes_none_live_longer(
    quick_redis: RedisServer, seconds: int, then: int
) -> None:
    with open_harness(quick_redis.url) as harness:
        received_before = received(harness.connection, hours_ago=2)
        event, later = (msgspec.structs.replace(received_before, id=digit * 24) for digit in "12")
        mark(harness.connection, event, "new", seconds=seconds)
        mark(harness.connection, later, "new", seconds=then)
        marks.age(harness.connection, int(1.5 * DAY * 1000) + 1000)

        steps = [backfill(harness.connection, one) for one in (event, later)]

        assert [step.already_fanned_out for step in steps] == [int(seconds > DAY), int(then > DAY)]


@pytest.mark.parametrize(("hours_ago", "is_offered"), [(0.5, True), (2, False)])
def test_without_its_mark_it_was_offered_if_the_handler_was_subscribed_when_it_was_received(
    quick_redis: RedisServer, hours_ago: float, is_offered: bool
) -> None:
    with open_harness(quick_redis.url) as harness:
        step = backfill(harness.connection, received(harness.connection, hours_ago=hours_ago))

        assert (step.enqueued, step.already_fanned_out) == ((0, 1) if is_offered else (1, 0))


def test_a_handler_that_was_forgotten_was_offered_nothing(quick_redis: RedisServer) -> None:
    with open_harness(quick_redis.url) as harness:
        event = received(harness.connection, hours_ago=2)
        mark(harness.connection, event, "new", "old")
        forget.forget(harness.connection, "new")

        assert backfill(harness.connection, event).enqueued == 1
        (generation,) = harness.connection.hvals(keys.SEEN)
        assert generation == b"86400 1 old"


@pytest.mark.parametrize("foreign_id", ["order-17", "z" * 24, " " * 24, "12 " * 8, ""])
def test_an_id_that_is_no_digest_ends_no_backfill_and_hides_no_mark(quick_redis: RedisServer, foreign_id: str) -> None:
    with quick_redis.client() as client:
        event = received(client, hours_ago=2)
        mark(client, event, "new")
        foreign = msgspec.structs.replace(event, id=foreign_id)
        offers = Subscriptions((((client.time()[0] - HOUR) * 1000, math.inf),))
        (step,) = Backfill(client, "new", offers=offers).enqueue([foreign, event])
        assert step == BackfillStep(enqueued=1, already_fanned_out=1)


def test_a_step_that_fails_at_a_set_of_another_type_has_noted_none_of_its_events(quick_redis: RedisServer) -> None:
    with quick_redis.client() as client:
        first, second = (msgspec.structs.replace(samples.report(), id=digits * 12) for digits in ("1a", "2b"))
        backfill_all = Backfill(client, "new", offers=None)
        client.set(keys.backfilled("new") + "2b", "no set")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            list(backfill_all.enqueue([first, second]))
        client.delete(keys.backfilled("new") + "2b")
        assert list(backfill_all.enqueue([first, first, second])) == [BackfillStep(enqueued=2, already_enqueued=1)]
