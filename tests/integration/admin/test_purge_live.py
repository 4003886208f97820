"""What waits for a handler at work is not discarded, whatever CALLBACKS_HANDLERS is in the operator's shell."""

from collections.abc import Iterator
from typing import Any

import pytest

from shared import keys, queues
from tests.integration.harness import HandlerTotals, Harness, open_harness
from tests.integration.scripted_handlers import accept_and_expand, other, script, single, whole
from tests.redis_server import RedisServer
from workers.admin.purge import Purger, StillRunning
from workers.expand.subscriptions import SubscriptionWriter
from workers.runtime import pause


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    script.__init__()  # type: ignore[misc]
    with open_harness(quick_redis.url, single, other, whole) as made:
        accept_and_expand(made, "1", "2")
        yield made


def test_while_a_worker_listens_it_must_be_off(harness: Harness) -> None:
    worker: Any = harness.worker(queues.delivery_queue("single"))
    worker.register_birth()
    with pytest.raises(StillRunning, match="first `callbacks handlers pause single`"):
        Purger(harness.connection, "single").prepare()

    pause.pause(harness.connection, "single")
    Purger(harness.connection, "single").prepare()
    pause.resume(harness.connection, "single")
    worker.register_death()
    Purger(harness.connection, "single").prepare()

    assert harness.totals(single) == HandlerTotals(waiting=2)


def test_while_expand_workers_offer_it_events_it_must_be_off_though_no_worker_listens_now(harness: Harness) -> None:
    SubscriptionWriter(["single"], connection=harness.connection).tick()
    with pytest.raises(StillRunning, match="first `callbacks handlers pause single`"):
        Purger(harness.connection, "single").prepare()

    SubscriptionWriter(["other"], connection=harness.connection).tick()
    assert not harness.connection.hget(keys.SUBSCRIPTIONS, "single").endswith(b"-"), "it is removed"
    Purger(harness.connection, "single").prepare()


def test_a_pause_of_its_own_is_not_enough(harness: Harness) -> None:
    SubscriptionWriter(["single"], connection=harness.connection).tick()
    harness.connection.hset(keys.paused("single"), mapping={"by": "handler", "since_ms": 1, "until_ms": 1 << 42})

    with pytest.raises(StillRunning):
        Purger(harness.connection, "single").prepare()
