"""One path has one spelling; a request has one length, type and host: anything ambiguous is refused."""

import gzip
import socket

import pytest

from tests.integration.http.test_http_refusals import exchange
from tests.redis_server import RedisServer
from tests.web_process import TOKEN, WebProcess, jobs, kept, report

BODY = report(1)


def request(path: str, *lines: bytes, method: bytes = b"POST", length: bool = True, body: bytes = BODY) -> bytes:
    """Return a request that httpx would not send, byte for byte."""
    head = [b"%s %s HTTP/1.1" % (method, path.encode()), b"Connection: close", *lines]
    if length:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def status_of(answered: bytes) -> int:
    return int(answered.split()[1]) if answered else 0


@pytest.mark.parametrize("ending", ["%0a", "%0A", "%0d%0a", "%20", "%00", ";x", ";", "%3f", "%2f", "/.", "s", "%"])
@pytest.mark.parametrize("address", [f"/callbacks/{TOKEN}/status", f"/callbacks/{TOKEN}/reply", f"/callbacks/{TOKEN}"])
def test_a_path_with_a_suffix_is_another_path(
    web: WebProcess, redis_server: RedisServer, address: str, ending: str
) -> None:
    assert status_of(exchange(web, request(address + ending))) == 404
    assert jobs(redis_server) == []


@pytest.mark.parametrize(
    "path",
    [
        f"/callbacks%2F{TOKEN}/status",
        f"/callbacks/{TOKEN}%2Fstatus",
        f"/%2e%2e/callbacks/{TOKEN}/status",
        f"/x/%2e%2e/callbacks/{TOKEN}/status",
        f"/x/../callbacks/{TOKEN}/status",
        f"/callbacks/{TOKEN}/%73tatus",
        f"/%63allbacks/{TOKEN}/status",
        f"/Callbacks/{TOKEN}/status",
        f"/callbacks/{TOKEN}/Status",
        f"/callbacks/{TOKEN}/STATUS",
        f"/callbacks/{TOKEN}%252e/status",
        "/callbacks//status",
        "/callbacks/%/status",
        "/livez%0a",
        "/%6civez",
    ],
)
def test_another_spelling_is_another_path(web: WebProcess, redis_server: RedisServer, path: str) -> None:
    assert status_of(exchange(web, request(path))) == 404
    assert jobs(redis_server) == []


@pytest.mark.parametrize(
    "path",
    [
        f"//callbacks/{TOKEN}/status",
        f"/callbacks//{TOKEN}/status",
        f"/callbacks/{TOKEN}//status",
        f"/callbacks/{TOKEN}/status/",
        f"/callbacks/{TOKEN}/",
        f"///callbacks//{TOKEN}///status///",
    ],
)
def test_more_slashes_mean_nothing(web: WebProcess, redis_server: RedisServer, path: str) -> None:
    assert status_of(exchange(web, request(path))) == 200
    assert len(kept(redis_server)) == 1


def test_the_token_may_be_percent_encoded(web: WebProcess, redis_server: RedisServer) -> None:
    encoded = "".join(f"%{ord(letter):02x}" for letter in TOKEN)
    assert status_of(exchange(web, request(f"/callbacks/{encoded}/status"))) == 200
    assert status_of(exchange(web, request(f"/callbacks/{encoded}%0a/status"))) == 404
    assert len(kept(redis_server)) == 1


@pytest.mark.parametrize("target", ["http://elsewhere{}", "{}?a=b&c=%00", "{}?" + "a" * 50_000, "{}#fragment"])
def test_an_absolute_target_a_query_and_a_fragment_change_nothing(
    web: WebProcess, redis_server: RedisServer, target: str
) -> None:
    assert status_of(exchange(web, request(target.format(f"/callbacks/{TOKEN}/status"), b"Host: x"))) == 200
    assert len(kept(redis_server)) == 1


@pytest.mark.parametrize(
    "lines",
    [
        [b"Host: x", b"Host: x"],
        [b"Host: x", b"Host: y"],
        [b"Content-Type: application/json", b"Content-Type: multipart/form-data"],
        [b"Content-Type: application/json", b"Content-Type: application/json"],
        [b"Content-Length: %d" % len(BODY)],
        [b"Content-Length: 5"],
        [b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding: xchunked"],
        [b"X-A: a\0b"],
        [b"X-A: a", b" folded"],
    ],
)
def test_an_ambiguous_request_is_refused(web: WebProcess, redis_server: RedisServer, lines: list[bytes]) -> None:
    answered = exchange(web, request(f"/callbacks/{TOKEN}/status", *lines))
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answered
    assert b"connection: close" in answered
    assert jobs(redis_server) == []


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: %d, %d" % (len(BODY), len(BODY)),
        b"Content-Length: +%d" % len(BODY),
        b"Content-Length: -1",
        b"Content-Length: 0x10",
        b"Content-Length: 1 1",
        b"Content-Length: %d" % (1 << 64),
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked, gzip",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ],
)
def test_an_invalid_length_is_refused(web: WebProcess, redis_server: RedisServer, line: bytes) -> None:
    answered = exchange(web, request(f"/callbacks/{TOKEN}/status", b"Host: x", line, length=False))
    assert status_of(answered) == 400
    assert jobs(redis_server) == []


def test_a_body_in_another_transfer_coding_is_an_encoded_body(web: WebProcess, redis_server: RedisServer) -> None:
    body = gzip.compress(BODY)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    line = b"Transfer-Encoding: gzip, chunked"
    sent = request(f"/callbacks/{TOKEN}/status", b"Host: x", line, length=False, body=chunked)
    assert status_of(exchange(web, sent)) == 200
    assert [callback.body.encode() for callback in kept(redis_server)] == [BODY]


@pytest.mark.parametrize(
    "damaged", [b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}0\r\n\r\n", b"-2\r\n{}\r\n", b"f" * 17 + b"\r\n"]
)
def test_a_body_with_damaged_chunks_is_answered_as_an_invalid_request(
    web: WebProcess, redis_server: RedisServer, damaged: bytes
) -> None:
    line = b"Transfer-Encoding: chunked"
    answered = exchange(web, request(f"/callbacks/{TOKEN}/status", b"Host: x", line, length=False, body=damaged))
    assert status_of(answered) == 400
    assert answered.count(b"HTTP/1.1") == 1
    assert jobs(redis_server) == []


@pytest.mark.parametrize("target", ["elsewhere:443", f"/callbacks/{TOKEN}/status"])
@pytest.mark.parametrize("offer", [[], [b"Connection: upgrade", b"Upgrade: x"]])
def test_connect_is_405_and_not_an_offer_to_upgrade(web: WebProcess, target: str, offer: list[bytes]) -> None:
    before = web.output
    lines = offer or [b"Host: x"]
    answered = exchange(web, request(target, *lines, method=b"CONNECT", length=False, body=b""))
    assert answered.startswith(b"HTTP/1.1 405 ")
    assert b"allow: POST" in answered
    assert "Traceback" not in web.output[len(before) :]  # of a thousand lines, one at most


@pytest.mark.parametrize("method", [b"TRACE", b"OPTIONS", b"HEAD", b"PROPFIND"])
def test_only_a_post_is_a_callback(web: WebProcess, redis_server: RedisServer, method: bytes) -> None:
    assert status_of(exchange(web, request(f"/callbacks/{TOKEN}/status", method=method))) == 405
    assert status_of(exchange(web, request("*", method=b"OPTIONS", length=False, body=b""))) == 404
    assert jobs(redis_server) == []


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.0\r\nConnection: keep-alive"])
def test_http_1_0_is_served_and_its_connection_ends(web: WebProcess, redis_server: RedisServer, version: bytes) -> None:
    sent = request(f"/callbacks/{TOKEN}/status").replace(b"HTTP/1.1\r\nConnection: close", version)
    answered = exchange(web, sent)
    assert status_of(answered) == 200
    assert b"connection: close" in answered
    assert len(kept(redis_server)) == 1


def test_bytes_after_the_last_request_of_a_connection_are_not_read(web: WebProcess, redis_server: RedisServer) -> None:
    sent = request(f"/callbacks/{TOKEN}/status")
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        connection.sendall(sent * 2)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert len(kept(redis_server)) == 1
