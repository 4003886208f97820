"""Crowds of connections that want nothing, or want it very slowly: the others are served, and the crowd ends.

Some hundreds inside `make test`, where patience is short; with CHAOS_SECONDS set thousands, and the patience that
the service has. A line of JSON tells what they took in memory.
"""

import os
import resource
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from ingest.protocol import MAX_HEADS_BYTES
from tests.chaos.campaign import report_totals
from tests.memory import resident_mib
from tests.redis_server import RedisServer
from tests.web_process import TOKEN, StartWeb, WebProcess, report

WHOLE = "CHAOS_SECONDS" in os.environ
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
# Nobody can fill the log: ten lines of the start, and one in ten seconds for each of a few kinds of refusal.
MAX_LINES = 40
# The tests' own files, and the web process's.
RESERVED_FILES = 500


@pytest.fixture
def many_files() -> Iterator[int]:
    """Raise the limit on open files, for this process and those that it starts, as far as it goes; give it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def crowd_the_door(
    start_web: StartWeb, redis_server: RedisServer, many_files: int, record_property: Callable[[str, object], None]
) -> Callable[..., set[int]]:
    """Return what brings a crowd of a kind, sees it go, and tells with which status others were answered meanwhile."""

    def crowd_the_door(kind: str, sent: bytes, *, few: int, many: int, expected_mib: float) -> set[int]:
        number = min(many if WHOLE else few, many_files - RESERVED_FILES)
        web = (
            start_web(redis_server)
            if WHOLE
            else start_web(redis_server, prelude=HURRIED, CALLBACKS_BODY_TIMEOUT_SECONDS="4")
        )
        return _crowded(web, kind, sent, number=number, expected_mib=expected_mib, record_property=record_property)

    return crowd_the_door


@pytest.mark.parametrize(
    ("kind", "sent", "few", "many", "expected_mib"),
    [
        ("idle", b"", 500, 10_000, 0),
        ("half a head", HEAD, 500, 10_000, 0),
        ("endless heads", HEAD + b"X-A: " + b"a" * 60_000, 400, 3_000, 2 * MAX_HEADS_BYTES / (1 << 20)),
        ("slow bodies", HEAD + b"Content-Length: 60000\r\n\r\n{", 500, 3_000, 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_crowd_keeps_nobody_from_being_served_and_is_sent_away(
    *, crowd_the_door: Callable[..., set[int]], kind: str, sent: bytes, few: int, many: int, expected_mib: float
) -> None:
    assert crowd_the_door(kind, sent, few=few, many=many, expected_mib=expected_mib) == {200}


def test_a_crowd_with_the_right_token_and_large_bodies_costs_others_at_most_a_503_and_is_sent_away(
    crowd_the_door: Callable[..., set[int]],
) -> None:
    sent = HEAD + b"Content-Length: 60000\r\n\r\n" + b" " * 50_000

    # 10 MB of bodies; and the 150 MB that CHAOS_SECONDS brings are more than may be in flight.
    served = crowd_the_door("large slow bodies", sent, few=200, many=3_000, expected_mib=BODIES_MIB)

    assert served <= ({200, 503} if WHOLE else {200})


def _crowded(
    web: WebProcess,
    kind: str,
    sent: bytes,
    *,
    number: int,
    expected_mib: float,
    record_property: Callable[[str, object], None],
) -> set[int]:
    assert web.post(report(0)).status_code == 200
    before_mib, began = resident_mib(web.process.pid), time.monotonic()
    with ExitStack() as stack:
        crowd = [stack.enter_context(_connected(web, sent)) for _ in range(number)]
        served = [_served(web, number) for number in range(1, 21)]
        during_mib = resident_mib(web.process.pid)
        answers = _ends(crowd)
    totals: dict[str, object] = {
        "crowd": kind,
        "connections": number,
        "before_mib": round(before_mib),
        "during_mib": round(during_mib),
        "after_mib": round(resident_mib(web.process.pid)),
        "ended_after_seconds": round(time.monotonic() - began),
        "answers": answers,
    }
    report_totals(totals, record_property)
    assert answers["still open"] == 0
    assert set(answers) <= {"408", "503", "closed", "still open"}
    assert during_mib - before_mib < ANY_LOAD_MIB + number * CONNECTION_MIB + expected_mib
    assert web.post(report(0)).status_code == 200
    assert web.process.poll() is None
    assert "Traceback" not in web.output
    assert web.output.count("\n") < MAX_LINES
    return set(served)


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
