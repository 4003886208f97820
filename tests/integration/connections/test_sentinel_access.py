"""Sentinels with their own password, user and TLS, as REDIS_URL says."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
import redis

from callbacks.cli.child_processes import tied_to_parent
from shared import connections
from tests.certificates import self_signed
from tests.redis_server import StartRedis, binary, free_port

SERVICE: Final = "callbacks"
_WAIT_SECONDS: Final = 60.0


@pytest.fixture
def start_sentinel(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Return a function that starts a Sentinel with these lines of configuration."""
    with ExitStack() as stack:

        def start(lines: str) -> None:
            config = tmp_path / "sentinel.conf"
            config.write_text(f"bind 127.0.0.1\ndir {tmp_path}\n{lines}\n")
            process = subprocess.Popen(
                tied_to_parent([str(binary()), str(config), "--sentinel"]),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)

        yield start


def visits(url: str) -> tuple[int, int]:
    """Return what a worker's client and a web process's client count in Redis, once Sentinel answers."""
    connections.check_url(url)
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            with connections.connect(url) as client:
                first: Any = client.incr("visits")
            return first, asyncio.run(_visit(url))
        except redis.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


async def _visit(url: str) -> int:
    async with connections.connect_async(url, timeout_seconds=None) as client:
        return int(await client.incr("visits"))


def test_a_sentinel_with_a_user_and_a_password_of_its_own(
    start_redis: StartRedis, start_sentinel: Callable[[str], None]
) -> None:
    primary = start_redis({"requirepass": "of+redis"})
    port = free_port()
    start_sentinel(
        f"port {port}\nsentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1\n"
        f'sentinel auth-pass {SERVICE} "of redis"\n'
        'user asking on ">of/sentinel" ~* &* +@all\nuser default off'
    )
    address = f"redis+sentinel://:{quote('of+redis')}@127.0.0.1:{port}/{SERVICE}/0"

    assert visits(f"{address}?sentinel_username=asking&sentinel_password={quote('of/sentinel', safe='')}") == (1, 2)

    with pytest.raises(redis.exceptions.RedisError), connections.connect(address) as client:
        client.incr("visits")


@pytest.mark.parametrize("scheme", ["rediss", "redis"])
def test_a_sentinel_with_tls(
    start_redis: StartRedis, start_sentinel: Callable[[str], None], tmp_path: Path, scheme: str
) -> None:
    pem = self_signed(tmp_path)
    tls = {"tls-cert-file": str(pem), "tls-key-file": str(pem), "tls-ca-cert-file": str(pem), "tls-auth-clients": "no"}
    tls_port, port = free_port(), free_port()
    primary = start_redis({"tls-port": str(tls_port), **tls})
    lines = [f"{name} {value}" for name, value in tls.items()]
    is_encrypted = scheme == "rediss"
    start_sentinel(
        "\n".join(lines)
        + f"\nport 0\ntls-port {port}\ntls-replication {'yes' if is_encrypted else 'no'}\n"
        + f"sentinel monitor {SERVICE} 127.0.0.1 {tls_port if is_encrypted else primary.port} 1\n"
    )
    address = f"{scheme}+sentinel://127.0.0.1:{port}/{SERVICE}/0?ssl_ca_certs={pem}"

    assert visits(address if is_encrypted else f"{address}&sentinel_ssl=true") == (1, 2)

    unknown_authority = address.partition("?")[0] + ("" if is_encrypted else "?sentinel_ssl=true")
    with pytest.raises(redis.exceptions.RedisError), connections.connect(unknown_authority) as client:
        client.incr("visits")


def test_a_sentinel_with_a_certificate_of_another_authority_than_that_of_redis(
    start_redis: StartRedis, start_sentinel: Callable[[str], None], tmp_path: Path
) -> None:
    folders = (tmp_path / "redis", tmp_path / "sentinel")
    for folder in folders:
        folder.mkdir()
    of_redis, of_sentinel = map(self_signed, folders)
    tls_port, port = free_port(), free_port()
    start_redis(
        {
            "tls-port": str(tls_port),
            "tls-cert-file": str(of_redis),
            "tls-key-file": str(of_redis),
            "tls-ca-cert-file": str(of_redis),
            "tls-auth-clients": "no",
        }
    )
    start_sentinel(
        f"port 0\ntls-port {port}\ntls-replication yes\ntls-auth-clients no\n"
        f"tls-cert-file {of_sentinel}\ntls-key-file {of_sentinel}\ntls-ca-cert-file {of_redis}\n"
        f"requirepass asked\nsentinel monitor {SERVICE} 127.0.0.1 {tls_port} 1\n"
    )
    address = f"valkeys+sentinel://127.0.0.1:{port}/{SERVICE}/0?ssl_ca_certs={of_redis}&sentinel_password=asked"

    assert visits(f"{address}&sentinel_ssl_ca_certs={of_sentinel}") == (1, 2)

    with pytest.raises(redis.exceptions.RedisError), connections.connect(address) as client:
        client.incr("visits")
