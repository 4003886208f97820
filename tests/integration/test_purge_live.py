"""What waits for a handler at work is not discarded, whatever CALLBACKS_HANDLERS is in the operator's shell."""

from collections.abc import Iterator
from typing import Any

import pytest

from shared import keys, queues
from tests.integration.told import at_handler, brought, other, single, told, whole
from tests.integration.workbench import Bench, _quick_server, bench, quick_redis  # noqa: F401
from tests.redis_server import RedisServer
from workers.admin.purge import Purger, StillRunning
from workers.expand.subscriptions import SubscriptionWriter
from workers.runtime import pause


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    told.__init__()  # type: ignore[misc]
    with bench(quick_redis.url, single, other, whole) as made:
        brought(made, "1", "2")
        yield made


def test_while_a_worker_listens_it_must_be_off(b: Bench) -> None:
    worker: Any = b.worker(queues.delivery_queue("single"))
    worker.register_birth()
    with pytest.raises(StillRunning, match="first `callbacks handlers pause single`"):
        Purger(b.connection, "single").prepare()

    pause.pause(b.connection, "single")
    Purger(b.connection, "single").prepare()
    pause.resume(b.connection, "single")
    worker.register_death()
    Purger(b.connection, "single").prepare()

    assert at_handler(b, single) == (0, 0, 2, 0)


def test_while_expand_workers_offer_it_events_it_must_be_off_though_no_worker_listens_now(b: Bench) -> None:
    SubscriptionWriter(["single"], connection=b.connection).tick()
    with pytest.raises(StillRunning, match="first `callbacks handlers pause single`"):
        Purger(b.connection, "single").prepare()

    SubscriptionWriter(["other"], connection=b.connection).tick()
    assert not b.connection.hget(keys.SUBSCRIPTIONS, "single").endswith(b"-"), "it is removed"
    Purger(b.connection, "single").prepare()


def test_a_pause_of_its_own_is_not_enough(b: Bench) -> None:
    SubscriptionWriter(["single"], connection=b.connection).tick()
    b.connection.hset(keys.paused("single"), mapping={"by": "handler", "since_ms": 1, "until_ms": 1 << 42})

    with pytest.raises(StillRunning):
        Purger(b.connection, "single").prepare()
