"""Every refusal in the table of statuses, on real sockets: its status, its document, and that clients can read it."""

import gzip
import json
import socket

import httpx
import pytest

from ingest.body import COPY_BYTES
from tests.redis_server import RedisServer
from tests.web_process import TOKEN, StartWeb, WebProcess, counts, jobs, kept, payload, quarantine, report, until

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
        f"/callbacks/{TOKEN}/other",
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
def test_another_method_is_405_with_the_allowed_ones(web: WebProcess, method: str, path: str) -> None:
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


@pytest.mark.parametrize("encoding", ["br", "x", "gzip, gzip"])
def test_a_body_in_an_unknown_coding_is_refused_and_kept(
    web: WebProcess, redis_server: RedisServer, encoding: str
) -> None:
    answer = web.post(report(1), **{"content-encoding": encoding})
    assert is_problem(answer, 415, "unsupported-media")
    assert answer.headers["accept-encoding"] == "gzip, deflate, identity"
    assert [entry["body"].encode() for entry in quarantine(redis_server)] == [report(1)]


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "identity, gzip", "x-gzip"])
def test_a_compressed_body_is_accepted(web: WebProcess, redis_server: RedisServer, encoding: str) -> None:
    answer = web.post(gzip.compress(report(1)), **{"content-encoding": encoding})
    assert answer.json() == {"status": "accepted"}
    assert [callback.body.encode() for callback in kept(redis_server)] == [report(1)]


def test_a_bomb_is_too_large(start_web: StartWeb, redis_server: RedisServer) -> None:
    web = start_web(redis_server, CALLBACKS_MAX_BODY_BYTES=str(1 << 20))
    answer = web.post(gzip.compress(b" " * (256 << 20)), **{"content-encoding": "gzip"})
    assert is_problem(answer, 413, "too-large")
    with redis_server.client(decode_responses=False) as client:
        [failure_id] = client.zrange("cb:quarantine", 0, -1)
        body = client.hget(b"cb:quarantine:" + failure_id, "body")
    assert len(body or b"") == COPY_BYTES
    assert web.post(report(1)).status_code == 200


def test_a_named_charset_is_read(web: WebProcess, redis_server: RedisServer) -> None:
    body = '{"reply_message_id":"1","message":{"text":"Grüße"}}'
    answer = web.post(body.encode("latin-1"), "reply", **{"content-type": "application/json; charset=ISO-8859-1"})
    assert answer.json() == {"status": "accepted"}
    assert [callback.body for callback in kept(redis_server)] == [body]


@pytest.mark.parametrize(
    "media_type",
    [
        "application/x-www-form-urlencoded",
        "Application/X-WWW-Form-Urlencoded; charset=utf-8",
        "multipart/form-data; boundary=x",
        "multipart/mixed",
    ],
)
def test_json_that_is_called_a_form_is_accepted_and_a_form_is_refused_and_kept(
    web: WebProcess, redis_server: RedisServer, media_type: str
) -> None:
    assert web.post(report(1), **{"content-type": media_type}).json() == {"status": "accepted"}
    assert is_problem(web.post(b"status=SEEN", **{"content-type": media_type}), 415, "unsupported-media")
    assert [entry["body"] for entry in quarantine(redis_server)] == ["status=SEEN"]


def test_an_address_that_is_not_allowed_gets_403_whatever_its_token(
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


def test_ipv6_clients_are_recognised_by_their_address(start_web: StartWeb, redis_server: RedisServer) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    for allowed, status in (("::1", 200), ("127.0.0.1", 403)):
        web = start_web(redis_server, arguments=("--host", "::1", "--port", "0"), CALLBACKS_ALLOWED_IPS=allowed)
        assert web.url.startswith("http://[::1]:")
        assert web.post(report(1)).status_code == status


def test_an_ipv4_client_of_a_dual_stack_socket_is_recognised_by_its_ipv4_address(
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


def test_an_unexpected_exception_is_503_and_logged_without_the_body(
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
    assert is_problem(answer, 503, "internal-error")
    assert int(answer.headers["retry-after"]) > 0
    assert "action=unexpected_error where=callbacks count=1 error=LookupError" in web.output
    assert "in broken" in web.output
    assert "Grazzi" not in web.output
    assert "35699000001" not in web.output
    assert jobs(redis_server) == []


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


def test_a_refused_body_is_in_the_quarantine_once_with_why_and_with_its_headers(
    web: WebProcess, redis_server: RedisServer
) -> None:
    encoded = "".join(f"%{ord(character):02x}" for character in TOKEN)
    for agent in (f"first {encoded}", f"again {TOKEN}"):
        headers = {"user-agent": agent, "authorization": "Basic c2VjcmV0", "cookie": "secret=1"}
        for _ in range(2):
            assert web.post(b"rubbish", **headers, **{"content-type": "text/plain"}).status_code == 400
            assert (
                web.post(b"a=b", **headers, **{"content-type": "application/x-www-form-urlencoded"}).status_code == 415
            )
            assert web.post(b"x", **headers, **{"content-encoding": f"br, {TOKEN}"}).status_code == 415

    entries = {entry["body"]: entry for entry in quarantine(redis_server)}
    assert {body: (entry["refused"], entry["repeats"]) for body, entry in entries.items()} == {
        "rubbish": ("400", "3"),
        "a=b": ("415", "3"),
        "x": ("415", "3"),
    }
    assert json.loads(entries["rubbish"]["headers"]) == {
        "content-length": "7",
        "content-type": "text/plain",
        "user-agent": "first ***",
    }
    assert int(entries["x"]["last_ms"]) >= int(entries["x"]["received_ms"])
    assert counts(redis_server) == {"report.received": 3, "report.quarantined": 3}
    assert TOKEN not in str(entries)
    with redis_server.client() as client:
        assert int(client.get("cb:quarantine:bytes") or 0) == sum(int(entry["bytes"]) for entry in entries.values())


def test_a_request_with_two_hosts_leaves_a_copy(web: WebProcess, redis_server: RedisServer) -> None:
    body = report(1)
    received = exchange(web, HEAD + b"Host: other\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert received.startswith(b"HTTP/1.1 400 ")
    until(lambda: quarantine(redis_server))
    [entry] = quarantine(redis_server)
    assert (entry["body"], entry["error"]) == (body.decode(), "the Host header is repeated")
