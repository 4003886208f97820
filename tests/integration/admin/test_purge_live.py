"""Events of an active handler are not discarded, whatever CALLBACKS_HANDLERS is in the operator's shell."""

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


def test_while_a_worker_is_running_the_handler_must_be_paused(harness: Harness) -> None:
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


def test_while_expand_workers_offer_it_events_the_handler_must_be_paused(harness: Harness) -> None:
    SubscriptionWriter(["single"], connection=harness.connection).tick()
    with pytest.raises(StillRunning, match="first `callbacks handlers pause single`"):
        Purger(harness.connection, "single").prepare()

    SubscriptionWriter(["other"], connection=harness.connection).tick()
    assert not harness.connection.hget(keys.SUBSCRIPTIONS, "single").endswith(b"-"), "it is removed"
    Purger(harness.connection, "single").prepare()


def test_a_pause_by_the_handler_itself_is_not_enough(harness: Harness) -> None:
    SubscriptionWriter(["single"], connection=harness.connection).tick()
    harness.connection.hset(keys.paused("single"), mapping={"by": "handler", "since_ms": 1, "until_ms": 1 << 42})

    with pytest.raises(StillRunning):
        Purger(harness.connection, "single").prepare()
