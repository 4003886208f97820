"""Every form of REDIS_URL works for the workers and the web process."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from shared import connections
from shared.primary import Demoted
from tests.redis_server import RedisServer, StartRedis, free_port, require
from tests.sentinels import until


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
        f"valkey://:secret@127.0.0.1:{server.port}/2",
    ]


def test_workers_reach_the_server_by_tcp_and_by_its_unix_socket(server: RedisServer) -> None:
    for number, url in enumerate(urls(server)):
        connections.check_url(url)
        with connections.connect(url) as client:
            assert client.incr("visits") == number + 1


def test_so_does_the_web_process(server: RedisServer) -> None:
    async def visit(url: str) -> int:
        async with connections.connect_async(url, timeout_seconds=None) as client:
            return int(await client.incr("visits"))

    assert [asyncio.run(visit(url)) for url in urls(server)] == [1, 2, 3]


def test_a_host_name_is_resolved_again_when_its_server_is_demoted(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    old = start_redis(port=port)
    # On the same port of another loopback address.
    start_redis({"bind": "127.0.0.2", "protected-mode": "no"}, port=port)
    with redis.Redis(host="127.0.0.2", port=port) as client:
        until(client.ping, "an answer of the other server")
    leads_to = {"redis.test": "127.0.0.1"}
    resolve = socket.getaddrinfo

    def resolved(host: Any, *arguments: Any, **options: Any) -> Any:
        return resolve(leads_to.get(host, host), *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    url = f"redis://redis.test:{port}/0"

    async def visits() -> list[Any]:
        async with connections.connect_async(url, timeout_seconds=None) as web:
            with connections.connect(url) as worker, old.client() as primary:
                counted = [worker.incr("visits"), await web.incr("visits")]
                primary.execute_command("REPLICAOF", "127.0.0.2", port)
                leads_to["redis.test"] = "127.0.0.2"
                with pytest.raises(Demoted):
                    worker.incr("visits")
                with pytest.raises(Demoted):
                    await web.incr("visits")
                return [*counted, worker.incr("visits"), await web.incr("visits")]

    assert asyncio.run(visits()) == [1, 2, 1, 2]


def test_sentinels_that_accept_and_do_not_reply_are_given_up_soon() -> None:
    """They are asked one after another: three of them must not take longer than a supervisor may be silent."""
    url = "redis+sentinel://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3/service/0"
    clients: list[Any] = [
        *(connections.connect(url, timeout_seconds=seconds) for seconds in (5.0, 30.0)),
        *(connections.connect_async(url, timeout_seconds=seconds) for seconds in (None, 5.0)),
    ]

    for client in clients:
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            assert sentinel.connection_pool.connection_kwargs["socket_timeout"] == connections.SENTINEL_TIMEOUT_SECONDS
    assert [client.connection_pool.connection_kwargs["socket_timeout"] for client in clients] == [5.0, 30.0, None, 5.0]
