"""Crowds of connections that want nothing, or want it very slowly: the others are served, and the crowd ends.

Some hundreds inside `make test`, where patience is short; with CHAOS_SECONDS set thousands, and the patience that
the service has. A line of JSON tells what they took in memory.
"""

import json
import os
import resource
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from ingest.protocol import MAX_HEADS_BYTES
from tests.integration.conftest import TOKEN, StartWeb, WebProcess, report
from tests.memory import resident_mib
from tests.redis_server import RedisServer

HEAD = b"POST /callbacks/%s/status HTTP/1.1\r\nHost: x\r\n" % TOKEN.encode()
HURRIED = "import ingest.protocol\ningest.protocol.HEAD_SECONDS = 4.0"
# What one connection costs: its sockets' and Python's objects (5.3 KiB measured), beside what it has sent.
CONNECTION_MIB = 16 / 1024
# What any load whatever leaves behind once: pools, caches, and the answers' own objects.
ANY_LOAD_MIB = 30
# 64 MiB of bodies may be in flight, and are held up to three times over (see ingest/app.py).
BODIES_MIB = 3 * 64
# A head is given up on after 15 to 30 s, a body after 10.
GIVEN_UP_SECONDS = 90.0
# The tests' own files, and the web process's.
RESERVED_FILES = 500


@pytest.fixture
def many_files() -> Iterator[int]:
    """Raise the limit on open files, for this process and those that it starts, as far as it goes; give it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("kind", "sent", "few", "many", "expected_mib"),
    [
        ("idle", b"", 500, 10_000, 0),
        ("half a head", HEAD, 500, 10_000, 0),
        ("endless heads", HEAD + b"X-A: " + b"a" * 60_000, 400, 3_000, 2 * MAX_HEADS_BYTES / (1 << 20)),
        ("slow bodies", HEAD + b"Content-Length: 60000\r\n\r\n{", 500, 3_000, 0),
        ("large slow bodies", HEAD + b"Content-Length: 60000\r\n\r\n" + b" " * 50_000, 200, 3_000, BODIES_MIB),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_crowd_keeps_nobody_from_being_served_and_is_sent_away(
    *,
    start_web: StartWeb,
    redis_server: RedisServer,
    many_files: int,
    record_property: Callable[[str, object], None],
    kind: str,
    sent: bytes,
    few: int,
    many: int,
    expected_mib: float,
) -> None:
    whole = "CHAOS_SECONDS" in os.environ
    number = min(many if whole else few, many_files - RESERVED_FILES)
    web = (
        start_web(redis_server)
        if whole
        else start_web(redis_server, prelude=HURRIED, CALLBACKS_BODY_TIMEOUT_SECONDS="4")
    )
    assert web.post(report(0)).status_code == 200
    before_mib, began = resident_mib(web.process.pid), time.monotonic()
    with ExitStack() as stack:
        crowd = [stack.enter_context(_connected(web, sent)) for _ in range(number)]
        served = [_served(web, number) for number in range(1, 21)]
        during_mib = resident_mib(web.process.pid)
        answers = _ends(crowd)
    figures = {
        "crowd": kind,
        "connections": number,
        "before_mib": round(before_mib),
        "during_mib": round(during_mib),
        "after_mib": round(resident_mib(web.process.pid)),
        "ended_after_seconds": round(time.monotonic() - began),
        "answers": answers,
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    for name, value in figures.items():
        record_property(name, value)
    # Only bodies that are in flight with the right token can use up what may be in flight.
    assert set(served) <= ({200, 503} if kind == "large slow bodies" else {200})
    assert answers["still open"] == 0
    assert set(answers) <= {"408", "503", "closed", "still open"}
    assert during_mib - before_mib < ANY_LOAD_MIB + number * CONNECTION_MIB + expected_mib
    assert web.post(report(0)).status_code == 200
    assert web.process.poll() is None
    assert "Traceback" not in web.output
    assert web.output.count("\n") < 40


def _connected(web: WebProcess, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", web.port), timeout=60)
    with suppress(ConnectionError):  # may be sent away at once
        connection.sendall(sent)
    return connection


def _served(web: WebProcess, number: int) -> int:
    return web.post(report(number)).status_code


def _ends(crowd: list[socket.socket]) -> Counter[str]:
    """Wait until the server has ended every connection; count how."""
    deadline, how = time.monotonic() + GIVEN_UP_SECONDS, Counter({"still open": 0})
    poll, left = select.poll(), {connection.fileno(): connection for connection in crowd}
    for number in left:
        poll.register(number, select.POLLIN)
    while left and time.monotonic() < deadline:
        for number, _ in poll.poll(1000):
            try:
                received = left[number].recv(4096)
            except ConnectionError:
                received = b""
            how[received.split()[1].decode() if received else "closed"] += 1
            poll.unregister(number)
            left.pop(number).close()
    how["still open"] = len(left)
    return how
