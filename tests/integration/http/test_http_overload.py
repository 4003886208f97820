"""Clients that do not read, that send endless headers together, and that try to fill the log."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from ingest.log import INTERVAL_SECONDS
from tests.integration.http.test_http_refusals import HEAD, exchange
from tests.redis_server import RedisServer
from tests.web_process import StartWeb, WebProcess, kept, report, until

# By default the kernel buffers megabytes of answers; here only a few KiB.
SMALL_BUFFERS = """
import socket, callbacks.cli.ports
usual = callbacks.cli.ports.listen
def listen(host, port):
    listening = usual(host, port)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return listening
callbacks.cli.ports.listen = listen
"""
PING = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


# Pipelined requests end no connection here, however rarely the server reads.
UNLIMITED_PIPELINE = "import ingest.protocol\ningest.protocol.MAX_PIPELINED = 1_000_000\n"
# No request waits for room: all are answered, and the answers are buffered until they are read.
ROOM_FOR_ALL = """
made = ingest.protocol.HttpProtocol.connection_made
def connection_made(self, transport):
    transport.set_write_buffer_limits(high=1 << 30)
    made(self, transport)
ingest.protocol.HttpProtocol.connection_made = connection_made
"""
# The process prints that it found something unread.
REPORTING = """
check = ingest.protocol.HttpProtocol._check
def _check(self):
    check(self)
    if self._unread_checks:
        print("found unread", flush=True)
ingest.protocol.HttpProtocol._check = _check
"""
# Their answers exceed the buffers of both sides, a few KiB.
MANY = 4000


@contextmanager
def unreading(web: WebProcess) -> Iterator[socket.socket]:
    """Return a connection with room for hardly any answer."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.1)
        connection.connect(("127.0.0.1", web.port))
        yield connection


def send(connection: socket.socket, data: bytes) -> None:
    """Send all of `data`, however often it must wait, unless the server ends the connection."""
    left = memoryview(data)
    with suppress(ConnectionError):
        while left and not is_ended(connection):
            with suppress(TimeoutError):
                left = left[connection.send(left) :]


def is_ended(connection: socket.socket) -> bool:
    """Return whether the server has ended the connection, whatever it sent before."""
    poll = select.poll()
    poll.register(connection, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


@pytest.mark.parametrize(
    ("prelude", "last"),
    [("", PING * 100 * MANY), (ROOM_FOR_ALL, PING.replace(b"Host", b"Connection: close\r\nHost"))],
    ids=["waiting for room", "closing"],
)
def test_a_connection_on_which_no_answer_is_read_is_aborted(
    start_web: StartWeb, redis_server: RedisServer, prelude: str, last: bytes
) -> None:
    quick = "ingest.protocol.HEAD_SECONDS = 2.0\n"
    web = start_web(redis_server, prelude=SMALL_BUFFERS + UNLIMITED_PIPELINE + quick + prelude)
    assert web.ready()
    with unreading(web) as connection:
        send(connection, PING * MANY + last)
        until(lambda: "action=connection_aborted count=1 address=127.0.0.1" in web.output)
        # The kernel may still hold earlier answers; the server sends no more.
        send(connection, PING * 100 * MANY)
        assert is_ended(connection)
    assert web.post(report(1)).status_code == 200
    assert "action=refused" not in web.output
    assert "Traceback" not in web.output


def test_a_protocol_may_allow_more_time_for_long_downloads(start_web: StartWeb, redis_server: RedisServer) -> None:
    short_head_timeout = (
        "ingest.protocol.HEAD_SECONDS = 0.2\ningest.protocol.HttpProtocol.max_unread_checks = 1_000_000\n"
    )
    web = start_web(
        redis_server, prelude=SMALL_BUFFERS + UNLIMITED_PIPELINE + ROOM_FOR_ALL + REPORTING + short_head_timeout
    )
    assert web.ready()
    with unreading(web) as connection:
        send(connection, PING * MANY)
        until(lambda: web.output.count("found unread") > 5)
        assert not is_ended(connection)
    assert "action=connection_aborted" not in web.output


def test_a_client_that_reads_slowly_gets_its_answers(start_web: StartWeb, redis_server: RedisServer) -> None:
    web = start_web(redis_server, prelude="import ingest.protocol\ningest.protocol.HEAD_SECONDS = 2.0")
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        for _ in range(10):
            connection.sendall(PING)
            time.sleep(0.5)  # ten of these take longer than the limit for a head
            answered = b""
            while b'"alive"' not in answered:  # head and body may arrive separately
                received = connection.recv(16)
                assert received, answered
                answered += received
    assert "action=connection_aborted" not in web.output


def test_incomplete_heads_share_a_limit_beyond_which_a_normal_head_is_still_accepted(
    start_web: StartWeb, redis_server: RedisServer
) -> None:
    web = start_web(redis_server, prelude="import ingest.protocol\ningest.protocol.MAX_HEADS_BYTES = 100_000")
    endless = HEAD + b"X-A: " + b"a" * 55_000

    def refused() -> bool:
        with socket.create_connection(("127.0.0.1", web.port), timeout=0.3) as connection:
            connection.sendall(endless)
            with suppress(TimeoutError):
                return connection.recv(4096).startswith(b"HTTP/1.1 503 ")
            return False

    holders = [socket.create_connection(("127.0.0.1", web.port), timeout=30) for _ in range(3)]
    try:
        for holder in holders[:1]:
            holder.sendall(endless)
        with holders[2] as honest:
            holders[1].sendall(HEAD)  # half a head
            until(refused)
            honest.sendall(HEAD[:40])
            holders[1].sendall(b"Content-Length: %d\r\n\r\n" % len(report(1)) + report(1))
            assert holders[1].recv(4096).startswith(b"HTTP/1.1 200 ")
    finally:
        for holder in holders:
            holder.close()
    until(lambda: not refused())  # a connection that has ended is no longer counted


@pytest.mark.parametrize(("size", "taken"), [(1, False), (15, False), (16, True), (400, True)])
def test_a_body_in_tiny_pieces_is_not_read_to_its_end(
    start_web: StartWeb, redis_server: RedisServer, size: int, taken: bool
) -> None:
    web = start_web(redis_server, CALLBACKS_MAX_BODY_BYTES=str(4 << 20))
    body = report(1) + b" " * (5000 * size)
    crumbs = b"".join(b"%x\r\n%s\r\n" % (size, body[at : at + size]) for at in range(0, len(body) // size * size, size))
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        with suppress(ConnectionError):
            connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + crumbs + b"0\r\n\r\n")
        answered = b""
        with suppress(ConnectionError):
            answered = connection.recv(4096)
    assert answered.startswith(b"HTTP/1.1 200 ") == taken
    assert len(kept(redis_server)) == taken
    # The count starts again with the next body.
    assert web.post(report(2)).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"Garbage\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_any_bytes_sent_a_hundred_times_make_one_line_of_the_log_in_its_interval(web: WebProcess, sent: bytes) -> None:
    assert web.ready()
    before, began = web.output.count("\n"), time.monotonic()
    for _ in range(100):
        assert exchange(web, sent)
    intervals = (time.monotonic() - began) // INTERVAL_SECONDS
    assert web.output.count("\n") - before <= 2 + intervals
