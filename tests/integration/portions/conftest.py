"""A service whose handlers share events, and nothing that an earlier test called."""

from collections.abc import Iterator

import pytest

from tests.integration.harness import Harness, open_harness
from tests.integration.portions.sharing_handlers import both, called, failing
from tests.redis_server import RedisServer
from workers.runtime import job_transitions


@pytest.fixture(autouse=True)
def _no_wait_and_no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_transitions, "MAX_WAIT_SECONDS", 0)
    called.clear()
    failing.clear()


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    """Return a service with two handlers that want all events."""
    with open_harness(quick_redis.url, *both) as made:
        yield made
