"""Redis falls back to a state of a moment ago: a failover to a replica that was behind, or a crash with everysec.

What workers settled in that moment is done again, so that nothing is left behind without end.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from callbacks import ReportEvent, handler
from shared import keys
from tests.integration.harness import Harness, open_harness, statuses
from tests.redis_server import RedisServer
from workers.runtime import worker

connections: list[Any] = []
called: list[str] = []
before: dict[bytes, tuple[int, bytes]] = {}


@handler(ReportEvent)
def falling_back(event: ReportEvent) -> None:
    """Save the state of Redis while the first event is in flight, and restore it while the second is."""
    (connection,) = connections
    called.append(event.message_id)
    if event.message_id == "1" and not before:
        before.update(everything(connection))
    if event.message_id == "2" and called.count("2") == 1:
        connection.flushall()
        for key, (lifetime_ms, dumped) in before.items():
            connection.restore(key, lifetime_ms, dumped)


def everything(connection: Any) -> Iterator[tuple[bytes, tuple[int, bytes]]]:
    for key in list(connection.scan_iter(count=1000)):
        yield key, (max(0, connection.pttl(key)), connection.dump(key))


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setattr(worker, "_CHECK_SECONDS", 0.0)
    called.clear()
    before.clear()
    with open_harness(quick_redis.url, falling_back) as made:
        connections[:] = [made.connection]
        yield made


def test_a_job_that_falls_back_with_redis_is_done_again_by_its_worker(harness: Harness) -> None:
    for message_id in ("1", "2"):
        harness.accept(*statuses([message_id]))
        harness.expand()

    harness.deliver(falling_back)

    assert called == ["1", "2", "1"], "the second one was settled after the fall"
    assert harness.audit().pending == 0
    assert harness.audit().balances
    assert harness.connection.zcard(keys.rq_started("deliver-falling_back")) == 0
