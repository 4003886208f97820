"""What acceptance tests stand on: processes of the service on a Redis of the tests' own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import HANDLERS, TOKEN, Running, started
from tests.collector import Collector, collecting
from tests.redis_server import RedisServer, free_port


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def start(tmp_path: Path, redis_server: RedisServer, port: int) -> Iterator[Callable[..., Running]]:
    """Start processes of one service: `start("web")`, `start("worker", "expand", "--processes", "2")`."""
    environment = {
        "REDIS_URL": redis_server.url,
        "PORT": str(port),
        "CALLBACKS_TOKENS": f"acceptance={TOKEN}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
        "CALLBACKS_LOG_FILE": str(tmp_path / "events.jsonl"),
    }
    with started(tmp_path, environment) as starter:
        yield starter


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Yield a collector of spans. A process whose variables are its `environment()` traces."""
    with collecting() as collector:
        yield collector


@pytest.fixture
def traced(start: Callable[..., Running], collector: Collector) -> Callable[..., Running]:
    """Start processes as `start` does, which trace to `collector` and call the handlers of `traced_handlers`."""

    def traced(*arguments: str, **extra: str) -> Running:
        return start(*arguments, **{**HANDLERS, **collector.environment(), **extra})

    return traced
