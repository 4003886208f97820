"""Every form of REDIS_URL leads to the same server, for workers and for the web process alike."""

import asyncio
from collections.abc import Iterator

import pytest

from shared import connections
from tests.redis_server import RedisServer, require


@pytest.fixture
def server() -> Iterator[RedisServer]:
    require()
    # A path of its own in the server's folder: "unixsocket" is relative to it.
    with RedisServer({"unixsocket": "redis.sock", "requirepass": "secret"}) as server:
        yield server


def urls(server: RedisServer) -> list[str]:
    return [
        f"redis://:secret@127.0.0.1:{server.port}/2",
        f"unix://:secret@{server.folder}/redis.sock?db=2",
    ]


def test_workers_reach_the_server_by_tcp_and_by_its_unix_socket(server: RedisServer) -> None:
    for number, url in enumerate(urls(server)):
        connections.check(url)
        with connections.connect(url) as client:
            assert client.incr("visits") == number + 1


def test_so_does_the_web_process(server: RedisServer) -> None:
    async def visit(url: str) -> int:
        async with connections.connect_async(url, timeout_seconds=None) as client:
            return int(await client.incr("visits"))

    assert [asyncio.run(visit(url)) for url in urls(server)] == [1, 2]
