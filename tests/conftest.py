"""What every test stands on: a stripped environment, and a private real Redis where one is asked for."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Final, TypeAlias

import hypothesis
import pytest

from tests.redis_server import RedisServer, require

StartRedis: TypeAlias = Callable[..., RedisServer]

_OTHERS: Final = ("REDIS_URL", "DATABASE_URL", "PORT", "HOST", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")

# Two busy cores make any example slow now and then; no test asserts a time.
hypothesis.settings.register_profile("ours", deadline=None)
hypothesis.settings.load_profile("ours")


@pytest.fixture(autouse=True)
def _stripped_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what a developer's shell may say about servers that are not ours."""
    for name in set(os.environ) - set(stripped_environment()):
        monkeypatch.delenv(name)


def stripped_environment() -> dict[str, str]:
    """Give this process's environment without what names servers, addresses or secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CALLBACKS_", "OTEL_")) and name not in _OTHERS
    }


@pytest.fixture(scope="session", autouse=True)
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the tests as Ctrl-C does: with every server and process that they started."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def _session_redis() -> Iterator[RedisServer]:
    require()
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(_session_redis: RedisServer) -> RedisServer:
    """Give the session's server, empty. A test that kills it or changes its configuration asks `start_redis`."""
    with _session_redis.client() as client:
        client.flushall()
    return _session_redis


@pytest.fixture
def start_redis() -> Iterator[StartRedis]:
    """Give a function that starts a server of the test's own: `start_redis({"maxmemory": "20mb"})`."""
    require()
    with ExitStack() as servers:

        def start(options: Mapping[str, str] | None = None, *, port: int | None = None) -> RedisServer:
            return servers.enter_context(RedisServer(options, port=port))

        yield start
