"""What one sender waits for, one request at a time, compared with the least that a durable answer can take.

The least is an RPUSH of a body of the same size with redis-py, which returns when Redis has fsynced it.
"""

import re
import socket
import time
from typing import Final

import redis

from benchmarks import bodies
from benchmarks.deployment import Deployment, MeasurementFailed
from benchmarks.measurements import Measurements, percentile

# So short that a slow moment of the disk meets both.
_TURN: Final = 20
_WARM_UP: Final = 50
_RPUSH: Final = "bare RPUSH"


def one_connection(requests: int) -> Measurements:
    """Make `requests` requests of each kind, in turns of twenty."""
    post_ms: list[float] = []
    push_ms: list[float] = []
    with (
        Deployment() as deployment,
        redis.Redis.from_url(deployment.redis_url) as plain,
        (url := deployment.web()).connect() as connection,
    ):
        for first in range(0, _WARM_UP + requests, _TURN):
            bodies_of_turn = [bodies.body(number) for number in range(first, first + _TURN)]
            for body in bodies_of_turn:
                started = time.perf_counter()
                plain.rpush("bare", body)
                push_ms.append((time.perf_counter() - started) * 1000)
            for request in [url.request(body) for body in bodies_of_turn]:
                started = time.perf_counter()
                exchange(connection, request)
                post_ms.append((time.perf_counter() - started) * 1000)
    posts, pushes = post_ms[_WARM_UP:], push_ms[_WARM_UP:]
    return {
        "p50 ms": percentile(posts, 0.5),
        "p99 ms": percentile(posts, 0.99),
        f"{_RPUSH} p50 ms": percentile(pushes, 0.5),
        f"{_RPUSH} p99 ms": percentile(pushes, 0.99),
        f"p50 / {_RPUSH} p50": percentile(posts, 0.5) / percentile(pushes, 0.5),
    }


def exchange(connection: socket.socket, request: bytes) -> None:
    """Send a request and read its answer. Raise MeasurementFailed if that is not 200."""
    connection.sendall(request)
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
