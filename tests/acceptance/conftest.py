"""What acceptance tests stand on: processes started as a user starts them, on a Redis of the tests' own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import Running, started
from tests.redis_server import RedisServer, free_port

TOKEN = "acceptance-token-4b1d"


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
