"""Limits of size and time: headers, bodies, and everything in flight, on real sockets."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ingest.body import COPY_BYTES
from tests.integration.http.test_http_process import read_status
from tests.integration.http.test_http_refusals import HEAD, exchange, is_problem
from tests.redis_server import RedisServer
from tests.web_process import MAX_BODY_BYTES, TOKEN, StartWeb, WebProcess, jobs, kept, quarantine, report, until


@pytest.mark.parametrize("size_bytes", [MAX_BODY_BYTES + 1, 10 * MAX_BODY_BYTES, 8 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_and_an_ordinary_client_reads_the_answer(
    web: WebProcess, redis_server: RedisServer, size_bytes: int, chunked: bool
) -> None:
    def pieces() -> Iterator[bytes]:
        for start in range(0, size_bytes, 8192):
            yield b" " * min(8192, size_bytes - start)

    with web.client() as client:
        content = pieces() if chunked else b" " * size_bytes
        answer = client.post(f"/callbacks/{TOKEN}/status", content=content)
    assert is_problem(answer, 413, "too-large")
    assert answer.headers["connection"] == "close"
    until(lambda: quarantine(redis_server))
    [entry] = quarantine(redis_server)
    assert (entry["body"], entry["refused"]) == (" " * COPY_BYTES, "413")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (HEAD, b"413"),
        (HEAD.replace(TOKEN.encode(), b"wrong"), b"404"),
        (HEAD.replace(b"POST", b"PUT"), b"405"),
        (HEAD.replace(b"/callbacks/", b"/elsewhere/"), b"404"),
    ],
)
def test_a_client_that_writes_all_of_its_body_before_it_reads_still_reads_the_answer(
    web: WebProcess, lines: bytes, status: bytes
) -> None:
    received = exchange(web, lines + b"Content-Length: %d\r\n\r\n" % (8 << 20) + b" " * (8 << 20))
    assert received.split()[1] == status
    assert b"connection: close" in received


def test_a_client_that_never_stops_writing_is_cut_off(web: WebProcess) -> None:
    head = HEAD + b"Content-Length: %d\r\n\r\n" % (1 << 40)
    with pytest.raises(ConnectionError):
        exchange(web, head + b" " * (256 << 20))


@pytest.mark.parametrize(
    "endless",
    [
        b"X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 4000,
        b"X-A: " + b"a" * 200_000,
        b"X" * 200_000,
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X-Trailer: aaaaaaaaaaaaaaaaaaa\r\n" * 10_000,
        b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 200_000,
    ],
    ids=["many lines", "one long line", "a long name", "trailers", "a chunk's extension"],
)
def test_endless_headers_are_cut_off_before_they_fill_the_memory(
    web: WebProcess, redis_server: RedisServer, endless: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        with suppress(OSError):  # the server does not read all of it
            connection.sendall(HEAD + endless)
        with suppress(ConnectionError):
            received = connection.recv(4096)
            assert not received or received.split()[1] in {b"400", b"431"}
    assert jobs(redis_server) == []
    assert web.post(report(1)).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"POST /call", HEAD], ids=["nothing", "half a line", "half a head"])
@pytest.mark.parametrize("requests_before", [0, 1])
def test_a_head_that_never_ends_times_out(
    start_web: StartWeb, redis_server: RedisServer, requests_before: int, sent: bytes
) -> None:
    web = start_web(
        redis_server,
        prelude="import ingest.protocol\nfrom callbacks.cli import web\n"
        "ingest.protocol.HEAD_SECONDS = 1.0\nweb._KEEP_ALIVE_SECONDS = 2",
    )
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        for _ in range(requests_before):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            answered = b""
            while b'{"status":"alive"}' not in answered:  # head and body may arrive separately
                received = connection.recv(4096)
                assert received, answered
                answered += received
        connection.sendall(sent)
        received = connection.recv(4096)
    # An idle connection that has served requests ends without an answer.
    assert received.startswith(b"HTTP/1.1 408 ") or (requests_before and not sent and not received)


def test_a_slow_body_is_not_a_slow_head(start_web: StartWeb, redis_server: RedisServer) -> None:
    web = start_web(redis_server, prelude="import ingest.protocol\ningest.protocol.HEAD_SECONDS = 2.0")
    body = report(1)
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 8):
            connection.sendall(body[start : start + 8])
            time.sleep(0.4)  # together they take longer than the limit for a head
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_body_at_the_limit_is_accepted(web: WebProcess, redis_server: RedisServer) -> None:
    body = report(1) + b" " * (MAX_BODY_BYTES - len(report(1)))
    assert web.post(body).status_code == 200
    assert kept(redis_server)[0].body.encode() == body


@pytest.mark.parametrize("length", [b"9" * 18, b"9" * 19])
def test_a_length_over_the_limit_is_refused_before_the_body_is_sent(web: WebProcess, length: bytes) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        connection.sendall(HEAD + b"Content-Length: " + length + b"\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_expects_100_continue_gets_413_and_the_connection_ends(web: WebProcess) -> None:
    received = exchange(web, HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in received


def test_a_chunked_upload_that_was_told_to_continue_gets_413_and_leaves_a_copy(
    web: WebProcess, redis_server: RedisServer
) -> None:
    size_bytes = 4 * MAX_BODY_BYTES
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert read_status(connection) == 100
        connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (size_bytes, b" " * size_bytes))
        assert read_status(connection) == 413
    until(lambda: quarantine(redis_server))
    [entry] = quarantine(redis_server)
    assert (entry["body"], entry["refused"]) == (" " * COPY_BYTES, "413")


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: -1",
        b"Content-Length: +5",
        b"Content-Length: 5x",
        b"Content-Length: 0x10",
        b"Content-Length: " + b"9" * 10_000,
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, gzip",
        b"Transfer-Encoding: nonsense",
    ],
)
def test_a_body_with_a_wrong_length_is_not_accepted_and_does_no_harm(
    web: WebProcess, redis_server: RedisServer, lines: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        connection.sendall(HEAD + lines + b"\r\n\r\n{}{}{}")
        connection.shutdown(socket.SHUT_WR)
        received = connection.recv(4096)
    assert not received or received.split()[1] in {b"400", b"413"}
    assert jobs(redis_server) == []
    assert web.post(report(1)).status_code == 200


@pytest.mark.parametrize("sent", [b"", b'{"data":['])
@pytest.mark.parametrize("promised", [b"Content-Length: 500", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_arrive_times_out(
    start_web: StartWeb, redis_server: RedisServer, sent: bytes, promised: bytes
) -> None:
    web = start_web(redis_server, CALLBACKS_BODY_TIMEOUT_SECONDS="0.3")
    if sent and b"chunked" in promised:
        sent = b"%x\r\n%s\r\n" % (len(sent), sent)
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        connection.sendall(HEAD + promised + b"\r\n\r\n" + sent)
        received = connection.recv(4096)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in received
    assert (jobs(redis_server), quarantine(redis_server)) == ([], [])
    assert web.post(report(1)).status_code == 200


def test_a_body_that_never_ends_times_out(start_web: StartWeb, redis_server: RedisServer) -> None:
    web = start_web(redis_server, CALLBACKS_BODY_TIMEOUT_SECONDS="0.5")
    with socket.create_connection(("127.0.0.1", web.port), timeout=0.05) as connection:
        connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b" ")
            try:
                received = connection.recv(4096)
                break
            except TimeoutError:
                continue
    assert received.startswith(b"HTTP/1.1 408 ")


def test_too_much_in_flight_is_503_before_memory_grows_and_later_callbacks_are_accepted(
    start_web: StartWeb, redis_server: RedisServer
) -> None:
    web = start_web(
        redis_server,
        prelude="import ingest.app\ningest.app.IN_FLIGHT_BYTES = 1",
        CALLBACKS_MAX_BODY_BYTES="4096",
    )
    # Four of the largest bodies fit. These hold the share of their requests, and most of that.
    holders = [socket.create_connection(("127.0.0.1", web.port), timeout=60) for _ in range(2)]
    for holder in holders:
        holder.sendall(HEAD + b"Content-Length: 4000\r\n\r\n" + b" " * 3999)
    deadline = 2000
    while (answer := web.post(b'{"data":1}' + b" " * 4000)).status_code == 200 and deadline:
        deadline -= 1
    assert is_problem(answer, 503, "overload")
    assert int(answer.headers["retry-after"]) > 0
    for holder in holders:
        holder.close()
    while web.post(report(1)).status_code == 503 and deadline:
        deadline -= 1
    assert deadline


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"another"])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_offer_to_upgrade_is_ignored_and_the_callback_accepted(
    web: WebProcess, redis_server: RedisServer, protocol: bytes, chunked: bool
) -> None:
    body = report(1)
    framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    length = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % len(body)
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n" % protocol
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        connection.sendall(HEAD + offer + length + b"\r\n" + framed[:7])
        time.sleep(0.05)
        connection.sendall(framed[7:])
        answered = b""
        while b"accepted" not in answered:
            received = connection.recv(4096)
            assert received, answered
            answered += received
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert [callback.body.encode() for callback in kept(redis_server)] == [body]


def test_too_many_pipelined_requests_end_the_connection_and_take_no_memory(web: WebProcess) -> None:
    def resident_kib() -> int:
        status = Path(f"/proc/{web.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    before_kib = resident_kib()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection, suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(5)
            for _ in range(100):  # 6 MB, without reading any answer
                connection.sendall(b"GET /readyz HTTP/1.1\r\n\r\n" * 2800)
            raise AssertionError("it took them all")
    assert resident_kib() - before_kib < 50_000  # without the limit it was a GiB


def test_too_many_headers_and_invalid_requests_get_problem_documents(web: WebProcess) -> None:
    many = b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 200
    for sent in (many + b"\r\n", many, b"garbage\r\n\r\n"):
        answered = exchange(web, sent)
        assert answered.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answered
    assert web.ready()
