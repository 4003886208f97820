"""Senders who do not read, who send heads without end together, and who try to fill the log."""

import select
import socket
import time
from contextlib import suppress

import pytest

from tests.integration.conftest import StartWeb, WebProcess, kept, report, until
from tests.integration.test_http_refusals import HEAD, exchange
from tests.redis_server import RedisServer

# The kernel would hold megabytes of answers for a reader; a few KiB will do.
SMALL_BUFFERS = """
import socket, cli.ports
usual = cli.ports.listen
def listen(host, port):
    listening = usual(host, port)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return listening
cli.ports.listen = listen
"""
PING = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def ended(connection: socket.socket) -> bool:
    """Whether the other side has given the connection up, whatever it sent before."""
    poll = select.poll()
    poll.register(connection, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(50))


def fill(connection: socket.socket) -> None:
    """Send requests, and read no answer, until the server takes no more, or has given the connection up."""
    connection.settimeout(1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(TimeoutError, ConnectionError):
        for _ in range(100_000):
            connection.sendall(PING * 4)
            time.sleep(0.002)  # more ahead of their answers than it takes would end the connection
        raise AssertionError("it took them all")


@pytest.mark.parametrize("last", [b"", b"Garbage\r\n\r\n"], ids=["waiting for room", "closing"])
def test_a_connection_whose_answers_nobody_reads_is_given_up(
    start_web: StartWeb, redis_server: RedisServer, last: bytes
) -> None:
    web = start_web(redis_server, prelude=SMALL_BUFFERS + "import ingest.protocol\ningest.protocol.HEAD_SECONDS = 2.0")
    assert web.ready()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", web.port))
        fill(connection)
        with suppress(OSError):
            connection.sendall(last)
        until(lambda: ended(connection))
    assert "action=aborted count=1 address=127.0.0.1" in web.output
    assert web.post(report(1)).status_code == 200
    assert "Traceback" not in web.output


def test_who_downloads_much_can_be_given_more_patience(start_web: StartWeb, redis_server: RedisServer) -> None:
    patient = "import ingest.protocol\ningest.protocol.HEAD_SECONDS = 0.2\n"
    patient += "ingest.protocol.HttpProtocol.most_unread_looks = 1_000_000\n"
    web = start_web(redis_server, prelude=SMALL_BUFFERS + patient)
    assert web.ready()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", web.port))
        fill(connection)
        time.sleep(1)  # some looks
        assert not ended(connection)
    assert "action=aborted" not in web.output


def test_who_reads_slowly_but_reads_is_answered(start_web: StartWeb, redis_server: RedisServer) -> None:
    web = start_web(redis_server, prelude="import ingest.protocol\ningest.protocol.HEAD_SECONDS = 0.5")
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        for _ in range(10):
            connection.sendall(PING)
            time.sleep(0.2)  # ten of them take longer than a head may
            answered = b""
            while b'"alive"' not in answered:  # head and body may come apart
                received = connection.recv(16)
                assert received, answered
                answered += received
    assert "action=aborted" not in web.output


def test_heads_without_end_share_a_bound_and_an_honest_head_is_taken_all_the_same(
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
    until(lambda: not refused())  # what is gone is counted no more


@pytest.mark.parametrize(("size", "taken"), [(1, False), (15, False), (16, True), (400, True)])
def test_a_body_in_crumbs_is_not_read_to_its_end(
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
    # The next body begins anew.
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
def test_whatever_is_sent_a_hundred_times_is_one_line_of_the_log(web: WebProcess, sent: bytes) -> None:
    assert web.ready()
    before = web.output.count("\n")
    for _ in range(100):
        assert exchange(web, sent)
    assert web.output.count("\n") - before <= 3  # one in ten seconds, on a slow machine
