"""RQ's listener for commands: a message that it cannot read, or a broken answer, does not end it in silence."""

from collections.abc import Iterator
from typing import Any

import pytest

from shared import connections, queues
from shared.background import Background
from tests.integration.conftest import until
from tests.integration.told import single
from tests.integration.workbench import Bench, _quick_server, bench, quick_redis, worker_name  # noqa: F401
from tests.redis_server import RedisServer
from workers.running.notebook import Notebook
from workers.running.rq_worker import QueueWorker


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    with bench(quick_redis.url, single) as made:
        yield made


def test_the_listener_goes_on_after_a_message_that_is_not_a_command(b: Bench, caplog: pytest.LogCaptureFixture) -> None:
    work = Background()
    with connections.connect(b.url) as connection:
        worker: Any = QueueWorker(
            queues.EXPAND,
            name=worker_name(queues.EXPAND),
            connection=connection,
            notebook=Notebook(),
            background=work,
        )
        worker.subscribe()
        channel = worker.pubsub_channel_name
        until(lambda: dict(b.connection.pubsub_numsub(channel)).get(channel.encode()) == 1)
        for _ in range(2):
            b.connection.publish(channel, b"no JSON")
        until(lambda: work.failing() == {"rq_commands": "JSONDecodeError"})

        assert worker.pubsub_thread.is_alive()
        b.connection.publish(channel, b'{"command": "unknown"}')
        worker.unsubscribe()

    assert "action=loop_failed loop=rq_commands count=1 JSONDecodeError" in caplog.text
