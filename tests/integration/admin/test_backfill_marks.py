"""A backfill knows which events a handler was offered, also if CALLBACKS_DEDUPE_SECONDS was changed meanwhile."""

import math
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from callbacks import samples
from shared import keys
from tests.integration.harness import open_harness
from tests.redis_server import RedisServer
from workers.admin.backfill import Backfill
from workers.expand.subscriptions import Subscriptions

HOUR = 3600
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("marked_for", "now_is", "received_ago", "is_offered"),
    [
        pytest.param(DAY, DAY, 2 * HOUR, False, id="as it was, received before"),
        pytest.param(DAY, DAY, HOUR / 2, True, id="as it was, received since"),
        pytest.param(7 * DAY, DAY, 2 * DAY, False, id="lowered, received before"),
        pytest.param(7 * DAY, DAY, HOUR / 2, True, id="lowered, received since"),
        pytest.param(DAY, 7 * DAY, 2 * HOUR, False, id="raised, received before"),
        pytest.param(DAY, 7 * DAY, HOUR / 2, True, id="raised, received since"),
    ],
)
def test_a_handler_subscribed_an_hour_ago_misses_no_event_and_gets_none_twice(
    quick_redis: RedisServer,
    marked_for: float,
    now_is: int,
    received_ago: float,
    is_offered: bool,
) -> None:
    with open_harness(quick_redis.url) as harness:
        now = harness.connection.time()[0]
        received_at = datetime.fromtimestamp(now, UTC) - timedelta(seconds=received_ago)
        event = msgspec.structs.replace(samples.report(), received_at=received_at)
        harness.connection.set(keys.seen(event.id), 1, ex=int(marked_for - received_ago))
        offered = Subscriptions((((now - HOUR) * 1000, math.inf),))

        (step,) = Backfill(harness.connection, "new", offers=offered, dedupe_seconds=now_is).enqueue([event])

        assert (step.enqueued, step.already_fanned_out) == ((0, 1) if is_offered else (1, 0))
