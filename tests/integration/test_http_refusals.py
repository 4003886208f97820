"""Every refusal of the HTTP table, on real sockets: its status, its document, and that the client can read it."""

import gzip
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from tests.integration.conftest import (
    MAX_BODY_BYTES,
    TOKEN,
    StartWeb,
    WebProcess,
    jobs,
    kept,
    payload,
    quarantine,
    report,
)
from tests.redis_server import RedisServer

HEAD = b"POST /callbacks/%s/status HTTP/1.1\r\nHost: x\r\n" % TOKEN.encode()


def is_problem(answer: httpx.Response, status: int, name: str) -> bool:
    document = answer.json()
    return (
        answer.status_code == status
        and answer.headers["content-type"] == "application/problem+json"
        and document["type"] == f"urn:problem-type:callbacks:{name}"
        and document["status"] == status
        and TOKEN not in answer.text
    )


def exchange(web: WebProcess, request: bytes, *, family: str = "127.0.0.1") -> bytes:
    """Send `request` and read until the server closes."""
    with socket.create_connection((family, web.port), timeout=60) as connection:
        connection.sendall(request)
        received = b""
        while piece := connection.recv(4096):
            received += piece
        return received


@pytest.mark.parametrize(
    "path",
    [
        "/callbacks/wrong/status",
        "/callbacks/wrong",
        f"/callbacks/{TOKEN}x/reply",
        f"/callbacks/{TOKEN[:-1]}/reply",
        f"/callbacks/{TOKEN.upper()}/reply",
        f"/callbacks/{TOKEN}/",
        f"/callbacks/{TOKEN}/status/",
        f"/callbacks/{TOKEN}/other",
        f"/callbacks//{TOKEN}/status",
        f"/callbacks/wrong%2F..%2F{TOKEN}/status",
        f"/callbacks/{TOKEN}%00/status",
        "/callbacks/gateway/status",
        "/callbacks",
        "/",
        "/docs",
    ],
)
def test_an_unknown_token_and_an_unknown_path_are_not_found(
    web: WebProcess, redis_server: RedisServer, path: str
) -> None:
    with web.client() as client:
        answer = client.post(path, content=report(1), follow_redirects=False)
    assert is_problem(answer, 404, "not-found")
    assert jobs(redis_server) == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["status", "reply", ""])
def test_another_method_is_not_allowed_and_the_answer_says_which_is(web: WebProcess, method: str, path: str) -> None:
    with web.client() as client:
        answer = client.request(method, f"/callbacks/{TOKEN}/{path}".rstrip("/"))
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert method == "HEAD" or is_problem(answer, 405, "method-not-allowed")


def test_health_is_only_read(web: WebProcess) -> None:
    with web.client() as client:
        for path in ("/livez", "/readyz"):
            answer = client.post(path)
            assert is_problem(answer, 405, "method-not-allowed")
            assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip", "x"])
def test_an_encoded_body_is_not_taken(web: WebProcess, redis_server: RedisServer, encoding: str) -> None:
    answer = web.post(gzip.compress(report(1)), **{"content-encoding": encoding})
    assert is_problem(answer, 415, "unsupported-media")
    assert quarantine(redis_server) == []


@pytest.mark.parametrize(
    "media_type",
    [
        "application/x-www-form-urlencoded",
        "Application/X-WWW-Form-Urlencoded; charset=utf-8",
        "multipart/form-data; boundary=x",
        "multipart/mixed",
    ],
)
def test_a_form_is_not_taken(web: WebProcess, media_type: str) -> None:
    assert is_problem(web.post(report(1), **{"content-type": media_type}), 415, "unsupported-media")


@pytest.mark.parametrize("size_bytes", [MAX_BODY_BYTES + 1, 10 * MAX_BODY_BYTES, 8 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_and_an_ordinary_client_reads_the_answer(
    web: WebProcess, redis_server: RedisServer, size_bytes: int, chunked: bool
) -> None:
    def pieces() -> Iterator[bytes]:
        for place in range(0, size_bytes, 8192):
            yield b" " * min(8192, size_bytes - place)

    with web.client() as client:
        content = pieces() if chunked else b" " * size_bytes
        answer = client.post(f"/callbacks/{TOKEN}/status", content=content)
    assert is_problem(answer, 413, "too-large")
    assert answer.headers["connection"] == "close"
    assert quarantine(redis_server) == []


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (HEAD, b"413"),
        (HEAD + b"Content-Encoding: gzip\r\n", b"415"),
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
def test_header_lines_without_end_are_cut_off_before_they_fill_the_memory(
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
def test_a_head_that_never_ends_is_given_up_on(
    start_web: StartWeb, redis_server: RedisServer, requests_before: int, sent: bytes
) -> None:
    web = start_web(
        redis_server,
        prelude="import cli.web, ingest.protocol\ningest.protocol.HEAD_SECONDS = 0.2\ncli.web._KEEP_ALIVE_SECONDS = 2",
    )
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        for _ in range(requests_before):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            answered = b""
            while b'{"status":"alive"}' not in answered:  # head and body may come apart
                answered += connection.recv(4096)
        connection.sendall(sent)
        received = connection.recv(4096)
    # An idle connection that has served ends without a word.
    assert received.startswith(b"HTTP/1.1 408 ") or (requests_before and not sent and not received)


def test_a_slow_body_is_no_slow_head(start_web: StartWeb, redis_server: RedisServer) -> None:
    web = start_web(redis_server, prelude="import ingest.protocol\ningest.protocol.HEAD_SECONDS = 0.05")
    body = report(1)
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        for place in range(0, len(body), 8):
            connection.sendall(body[place : place + 8])
            time.sleep(0.05)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_body_at_the_limit_is_taken(web: WebProcess, redis_server: RedisServer) -> None:
    body = report(1) + b" " * (MAX_BODY_BYTES - len(report(1)))
    assert web.post(body).status_code == 200
    assert kept(redis_server)[0].body.encode() == body


@pytest.mark.parametrize("length", [b"9" * 18, b"9" * 19])
def test_a_length_over_the_limit_is_refused_before_the_body_is_sent(web: WebProcess, length: bytes) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        connection.sendall(HEAD + b"Content-Length: " + length + b"\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_who_expects_100_continue_hears_413_instead_and_the_connection_ends(web: WebProcess) -> None:
    received = exchange(web, HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in received


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
def test_no_length_however_wrong_is_kept_or_does_harm(web: WebProcess, redis_server: RedisServer, lines: bytes) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        connection.sendall(HEAD + lines + b"\r\n\r\n{}{}{}")
        connection.shutdown(socket.SHUT_WR)
        received = connection.recv(4096)
    assert not received or received.split()[1] in {b"400", b"413"}
    assert jobs(redis_server) == []
    assert web.post(report(1)).status_code == 200


@pytest.mark.parametrize("sent", [b"", b'{"data":['])
@pytest.mark.parametrize("promised", [b"Content-Length: 500", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_given_up_on(
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


def test_a_body_that_never_ends_is_given_up_on(start_web: StartWeb, redis_server: RedisServer) -> None:
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


def test_an_address_that_is_not_allowed_is_told_so_whatever_its_token(
    start_web: StartWeb, redis_server: RedisServer
) -> None:
    web = start_web(redis_server, CALLBACKS_ALLOWED_IPS="80.252.167.60")
    with web.client() as client:
        for token in (TOKEN, "wrong"):
            answer = client.post(f"/callbacks/{token}/status", content=report(1))
            assert is_problem(answer, 403, "address-not-allowed")
            assert "127.0.0.1" in answer.json()["detail"]
        spoofed = client.post(
            f"/callbacks/{TOKEN}/status", content=report(1), headers={"x-forwarded-for": "80.252.167.60"}
        )
    assert is_problem(spoofed, 403, "address-not-allowed")
    assert jobs(redis_server) == []


def test_behind_a_trusted_proxy_the_address_comes_from_x_forwarded_for(
    start_web: StartWeb, redis_server: RedisServer
) -> None:
    web = start_web(redis_server, CALLBACKS_ALLOWED_IPS="80.252.167.60", CALLBACKS_TRUSTED_PROXIES="127.0.0.1")
    for forwarded, status in [
        ("80.252.167.60", 200),
        ("1.2.3.4, 80.252.167.60", 200),
        ("80.252.167.60, 1.2.3.4", 403),
        ("nobody", 403),
    ]:
        assert web.post(report(1), **{"x-forwarded-for": forwarded}).status_code == status
    assert web.post(report(1)).status_code == 403
    several_lines = HEAD + (
        b"X-Forwarded-For: 80.252.167.60\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    assert exchange(web, several_lines).startswith(b"HTTP/1.1 403 ")


def test_ipv6_clients_are_known_by_their_address(start_web: StartWeb, redis_server: RedisServer) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    for allowed, status in (("::1", 200), ("127.0.0.1", 403)):
        web = start_web(redis_server, arguments=("--host", "::1", "--port", "0"), CALLBACKS_ALLOWED_IPS=allowed)
        assert web.url.startswith("http://[::1]:")
        assert web.post(report(1)).status_code == status


def test_an_ipv4_client_of_a_socket_for_both_is_known_by_its_ipv4_address(
    start_web: StartWeb, redis_server: RedisServer
) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    web = start_web(redis_server, arguments=("--host", "::", "--port", "0"), CALLBACKS_ALLOWED_IPS="127.0.0.1")
    received = exchange(web, HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(report(1)) + report(1))
    assert received.startswith(b"HTTP/1.1 200 ")


def test_an_unexpected_exception_is_503_and_logged_without_a_word_of_the_body(
    start_web: StartWeb, redis_server: RedisServer
) -> None:
    web = start_web(
        redis_server,
        prelude=(
            "import shared.wire\n"
            "def broken(body, kind):\n"
            "    raise LookupError('quoting ' + body.decode())\n"
            "shared.wire.check = broken\n"
        ),
    )
    answer = web.post(payload("reply"), "reply")
    assert is_problem(answer, 503, "fault")
    assert int(answer.headers["retry-after"]) > 0
    assert "action=fault where=callbacks LookupError" in web.output
    assert "in broken" in web.output
    assert "Grazzi" not in web.output
    assert "35699000001" not in web.output
    assert jobs(redis_server) == []


def test_too_much_in_flight_is_503_before_memory_grows_and_then_all_is_well(
    start_web: StartWeb, redis_server: RedisServer
) -> None:
    web = start_web(
        redis_server,
        prelude="import ingest.app\ningest.app.IN_FLIGHT_BYTES = 1",
        CALLBACKS_MAX_BODY_BYTES="4096",
    )
    # Four of the largest bodies fit: these hold their request's own share, and most of that.
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


@pytest.mark.parametrize("server", ["callbacks web", "uvicorn"])
def test_no_output_whatever_happens_shows_a_token(start_web: StartWeb, redis_server: RedisServer, server: str) -> None:
    web = (_uvicorn_with_its_access_log if server == "uvicorn" else _callbacks_web)(start_web, redis_server)
    for body in (report(1), b"rubbish", payload("status_unreadable")):
        web.post(body)
    with web.client() as client:
        client.get(f"/callbacks/{TOKEN}/status")
        client.get(f"/callbacks/{TOKEN}?token={TOKEN}")
        client.post(f"/callbacks//{TOKEN}", content=report(1))
        client.post(f"/CALLBACKS/{TOKEN}", content=report(1))
        client.post("/callbacks/yesterdays-token/status", content=report(1))
    exchange(web, b"POST /callbacks/%s HTTP/9.9\r\n\r\n" % TOKEN.encode())
    web.stop()
    assert TOKEN not in web.output
    assert "yesterdays-token" not in web.output
    assert "35699000006" not in web.output
    assert "Traceback" not in web.output
    assert (server == "uvicorn") == ('"POST /callbacks/***/status HTTP/1.1" 200' in web.output)


def _callbacks_web(start_web: StartWeb, redis_server: RedisServer) -> WebProcess:
    return start_web(redis_server)


def _uvicorn_with_its_access_log(start_web: StartWeb, redis_server: RedisServer) -> WebProcess:
    return start_web(
        redis_server,
        prelude=(
            "import socket, sys, uvicorn\n"
            "taken = socket.socket()\n"
            "taken.bind(('127.0.0.1', 0))\n"
            "print(f'listening on http://127.0.0.1:{taken.getsockname()[1]}')\n"
            "taken.listen(100)\n"
            "config = uvicorn.Config('ingest.app:create_app', factory=True)\n"
            "sys.exit(uvicorn.Server(config).run(sockets=[taken]))\n"
        ),
    )
