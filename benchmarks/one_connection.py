"""What one sender waits for, one request at a time, beside the least that a durable answer can take.

The least is an RPUSH of a body of the same size with redis-py, which returns when Redis has fsynced it.
"""

import re
import socket
import time
from collections.abc import Callable
from typing import Final

import redis

from benchmarks import bodies
from benchmarks.deployment import Deployment, MeasurementFailed, TargetUrl
from benchmarks.measurements import Measurements, percentile

# So short that a slow moment of the disk meets both.
_TURN: Final = 20
_WARM_UP: Final = 50
_TIMEOUT_SECONDS: Final = 30.0
_RPUSH: Final = "bare RPUSH"


def one_connection(requests: int) -> Callable[[], Measurements]:
    """Return a repetition that makes `requests` requests of each kind, in turns of twenty."""

    def run() -> Measurements:
        with Deployment() as deployment:
            return _measure(deployment, deployment.web(), requests)

    return run


def _measure(deployment: Deployment, url: TargetUrl, requests: int) -> Measurements:
    plain = redis.Redis.from_url(deployment.redis_url)
    post_ms: list[float] = []
    push_ms: list[float] = []
    with plain, socket.create_connection(("127.0.0.1", url.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for first in range(0, _WARM_UP + requests, _TURN):
            bodies_of_turn = [bodies.body(number) for number in range(first, first + _TURN)]
            for body in bodies_of_turn:
                started = time.perf_counter()
                plain.rpush("bare", body)
                push_ms.append((time.perf_counter() - started) * 1000)
            for request in [url.request(body) for body in bodies_of_turn]:
                started = time.perf_counter()
                connection.sendall(request)
                head = read_answer(connection)
                post_ms.append((time.perf_counter() - started) * 1000)
                if not head.startswith(b"HTTP/1.1 200 "):
                    raise MeasurementFailed(f"answered {head[:60]!r}")
    posts, pushes = post_ms[_WARM_UP:], push_ms[_WARM_UP:]
    return {
        "p50 ms": percentile(posts, 0.5),
        "p99 ms": percentile(posts, 0.99),
        f"{_RPUSH} p50 ms": percentile(pushes, 0.5),
        f"{_RPUSH} p99 ms": percentile(pushes, 0.99),
        f"p50 / {_RPUSH} p50": percentile(posts, 0.5) / percentile(pushes, 0.5),
    }


def post(url: TargetUrl, body: bytes) -> None:
    """Post one callback. Raises Failed if the answer is not 200."""
    with socket.create_connection(("127.0.0.1", url.port), timeout=_TIMEOUT_SECONDS) as connection:
        connection.sendall(url.request(body))
        head = read_answer(connection)
    if not head.startswith(b"HTTP/1.1 200 "):
        raise MeasurementFailed(f"answered {head[:60]!r}")


def read_answer(connection: socket.socket) -> bytes:
    """Read one whole answer; shorter if the other side hung up."""
    received = b""
    while True:
        got = connection.recv(65536)
        received += got
        head, blank, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not got or (blank and length and len(body) >= int(length[1])):
            return received
