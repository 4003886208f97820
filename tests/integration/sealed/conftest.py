"""The keys of these tests, and a Redis whose files are searched."""

import secrets
from collections.abc import Iterator

import pytest

from shared import sealed_data
from shared.seal_keys import SealKey
from tests.integration.sealed import sealed_handlers
from tests.redis_server import RedisServer, require


def new_key() -> SealKey:
    return SealKey(secrets.token_bytes(4), secrets.token_bytes(32))


OLD, NEW = new_key(), new_key()


@pytest.fixture(autouse=True)
def _old_key() -> Iterator[None]:
    sealed_data.use([OLD])
    yield
    sealed_data.use([])


@pytest.fixture(autouse=True)
def _forget_seen() -> None:
    sealed_handlers.seen.clear()


@pytest.fixture(scope="package")
def server() -> Iterator[RedisServer]:
    require()
    with RedisServer({"rdbcompression": "no", "save": "3600 1"}) as made:
        yield made


@pytest.fixture
def url(server: RedisServer) -> str:
    with server.client() as client:
        client.flushall()
    return server.url
