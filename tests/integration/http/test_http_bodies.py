"""Hostile bodies: each gets the documented answer, none exhausts the memory, and other requests are served."""

import json
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from tests.integration.http.test_http_refusals import HEAD
from tests.memory import resident_mib
from tests.redis_server import RedisServer
from tests.web_process import StartWeb, WebProcess, counts, jobs, kept, payload, quarantine, report, until

MIB = 1 << 20
RECORD = b'{"message_id":"1","status":"SEEN"}'
DEEP = b"[" * 100_000 + b"]" * 100_000
# A body of 4 MiB is in memory three times; as Python objects, `{"":0}` for example, it is 26 times as large.
ONE_BODY_MIB = 4 * (3 + 26) + 40
# 64 MiB of bodies in flight, each in memory three times at most (see ingest/app.py).
IN_FLIGHT_MIB = 3 * 64 + 40


def status(*records: bytes) -> bytes:
    return b'{"data":[%s]}' % b",".join(records)


def with_key(extra: bytes) -> bytes:
    return status(b'{"message_id":"1","status":"SEEN",%s}' % extra)


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + status(RECORD),
        b'{"data":[],"data":[%s]}' % RECORD,
        status(b'{"message_id":"2","message_id":"1","status":"A","status":"SEEN"}'),
        status(b'{"message_id":"%s","status":"SEEN"}' % (b"9" * 10_000)),
        with_key(b'"x":0.' + b"9" * 10_000),
        with_key(b'"x":"\\u0000\\ud83d\\\\ud83d"'),
        with_key(b'"\\udc00":1'),
        with_key(b'"timestamp":-0'),
    ],
    ids=["BOM", "data twice", "keys twice", "a long id", "a long fraction", "NUL and half a pair", "half a pair", "-0"],
)
def test_strange_but_readable_is_accepted_byte_for_byte(
    web: WebProcess, redis_server: RedisServer, body: bytes
) -> None:
    answer = web.post(body)
    assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
    assert [callback.body.encode() for callback in kept(redis_server)] == [body]


@pytest.mark.parametrize(
    "body",
    [
        status(RECORD).decode().encode("utf-16"),
        status(RECORD).decode().encode("utf-16-le"),
        b"\xef\xbb\xbf" * 2 + status(RECORD),
        status(RECORD) + b"\0",
        json.dumps(status(RECORD).decode()).encode(),
        b"[%s]" % RECORD,
        RECORD,
    ],
    ids=["a mark of UTF-16", "UTF-16", "two marks", "NUL", "a text", "a list", "a record"],
)
def test_another_shape_is_accepted_as_the_documented_callback(
    web: WebProcess, redis_server: RedisServer, body: bytes
) -> None:
    assert web.post(body).json() == {"status": "accepted"}
    assert [callback.body.encode() for callback in kept(redis_server)] == [status(RECORD)]


def test_a_list_of_callbacks_is_committed_callback_by_callback(web: WebProcess, redis_server: RedisServer) -> None:
    body = b"[%s,%s,%s]" % (report(1), payload("reply"), b'{"data":[{"message_id":"1"}]}')
    answer = web.post(body, "")
    assert (answer.status_code, answer.json()["quarantined"]) == (200, 1)
    assert [(callback.kind, callback.records) for callback in kept(redis_server)] == [("status", 1), ("reply", 1)]
    assert [entry["body"] for entry in quarantine(redis_server)] == ['{"data":[{"message_id":"1"}]}']
    assert counts(redis_server) == {
        "report.received": 1, "reply.received": 1, "unknown.received": 1, "unknown.quarantined": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        status(b'{"message_id":%s,"status":"SEEN"}' % (b"9" * 10_000)),
        status(b'{"message_id":"1","status":{}}'),
        status(b'{"message_id":true,"status":"SEEN"}'),
        status(RECORD)[:-2] + b'],"data":[]}',
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=["a long number", "a status that is an object", "an id that is true", "no data at last", "an array"],
)
def test_json_that_is_not_a_callback_is_quarantined_with_200(
    web: WebProcess, redis_server: RedisServer, body: bytes
) -> None:
    large = body if len(body) < 64_000 else body[:30_000] + body[-30_000:]
    answer = web.post(large)
    assert (answer.status_code, answer.json()["status"]) == (200, "quarantined")
    assert [entry["body"].encode() for entry in quarantine(redis_server)] == [large]


@pytest.mark.parametrize(
    "body",
    [
        status(RECORD).decode().encode("utf-32"),
        b"[%s" % status(RECORD),
        b'"{',
        status(RECORD) * 2,
        with_key(b'"x":"\0"'),
        with_key(b'"x":"\xc0\x80"'),
        with_key(b'"x":"\xed\xa0\x80"'),
        with_key(b'"x":-Infinity'),
        with_key(b'"x":+1'),
        with_key(b'"x":01'),
        with_key(b'"x":0x10'),
        status(RECORD, b""),
        b"/**/" + status(RECORD),
        status(RECORD).replace(b'"', b"'"),
        b"--x\r\nContent-Disposition: form-data; name=data\r\n\r\n{}\r\n--x--",
    ],
)
def test_a_body_that_is_not_json_is_refused_and_a_copy_quarantined(
    web: WebProcess, redis_server: RedisServer, body: bytes
) -> None:
    assert web.post(body).status_code == 400
    with redis_server.client(decode_responses=False) as client:
        [failure_id] = client.zrange("cb:quarantine", 0, -1)
        assert client.hget(b"cb:quarantine:" + failure_id, "body") == body
    assert jobs(redis_server) == []


@pytest.mark.parametrize(
    ("body", "answered"),
    [
        (b'{"data":' + DEEP + b"}", "quarantined"),
        (b'{"data":[%s],"x":%s}' % (RECORD, DEEP), "quarantined"),
        (b'{"reply_message_id":"1","message":{"x":%s}}' % DEEP, "quarantined"),
        (b'{"reply_message_id":"1","message":{"x":[%s]}}' % b",".join([b'{"":0}'] * 590_000), "accepted"),
        (b'{"reply_message_id":"1","message":{"text":"%s"}}' % (b"\\u00e9" * 690_000), "accepted"),
        (b'{"reply_message_id":"1","message":{"text":"\\ud83d%s"}}' % (b"\\\\" * 2_000_000), "accepted"),
        (b'{"reply_message_id":"1","message":{"text":"%s"}}' % (b"\\ud83d" * 690_000), "accepted"),
        (status(*[b"{}"] * 1_000_000), "quarantined"),
        (status(*[b"1"] * 2_000_000), "quarantined"),
        (status(b'{"message_id":%s,"status":"SEEN"}' % (b"9" * 4_000_000)), "quarantined"),
        (with_key(b",".join([b'"message_id":"1"'] * 240_000)), "accepted"),
        (status(*[RECORD] * 119_000), "accepted"),
    ],
    ids=[
        "deep data", "deep beside data", "deep message", "many small objects", "one text of escapes",
        "one text of backslashes", "one text of half pairs", "a million empty records", "two million numbers",
        "a number of 4 MB", "one key 240,000 times", "119,000 records",
    ],
)  # fmt: skip
def test_four_megabytes_of_anything_are_answered_in_bounded_time_and_memory(
    start_web: StartWeb, redis_server: RedisServer, body: bytes, answered: str
) -> None:
    assert len(body) <= 4 * MIB
    web = start_web(redis_server, CALLBACKS_MAX_BODY_BYTES=str(4 * MIB))
    assert web.post(report(0)).status_code == 200
    before_mib = resident_mib(web.process.pid)
    for path in ("status", ""):
        answer = web.post(body, path)
        assert (answer.status_code, answer.json()["status"]) == (200, answered)
    assert peak_mib(web) - before_mib < ONE_BODY_MIB
    assert web.post(report(1)).status_code == 200
    assert "action=unexpected_error" not in web.output


def test_a_hundred_bodies_of_four_megabytes_take_no_more_memory_than_the_limit_in_flight(
    start_web: StartWeb, redis_server: RedisServer
) -> None:
    web = start_web(redis_server, CALLBACKS_MAX_BODY_BYTES=str(4 * MIB))
    body = report(0) + b" " * (4 * MIB - len(report(0)))
    assert web.ready()
    before_mib = resident_mib(web.process.pid)

    def post(_number: int) -> httpx.Response | None:
        with suppress(
            httpx.TransportError
        ):  # a client that writes more of a refused body than is read may get no answer
            return web.post(body)
        return None

    with ThreadPoolExecutor(50) as pool:
        answers = [answer for answer in pool.map(post, range(100)) if answer is not None]
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert any(answer.status_code == 200 for answer in answers)
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 503)
    assert peak_mib(web) - before_mib < IN_FLIGHT_MIB
    assert len(kept(redis_server)) >= sum(answer.status_code == 200 for answer in answers)
    assert web.post(report(1)).status_code == 200


def test_bytes_after_the_announced_length_are_not_a_request(web: WebProcess, redis_server: RedisServer) -> None:
    body = report(1)
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received = b""
        while b"accepted" not in received:
            received += connection.recv(4096)
        connection.sendall(b'{"data":[]}\r\n\r\n')
        received = b""
        while piece := connection.recv(4096):
            received += piece
    assert received.startswith(b"HTTP/1.1 400 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["status"] == 400
    assert len(kept(redis_server)) == 1


@pytest.mark.parametrize("reset", [False, True])
def test_wherever_a_connection_ends_a_callback_is_accepted_whole_or_not_at_all(
    web: WebProcess, redis_server: RedisServer, reset: bool
) -> None:
    body = payload("reply")
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    before = len(web.output)
    for end in range(len(request)):
        with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(request[:end])
    assert (jobs(redis_server), quarantine(redis_server)) == ([], [])
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        connection.sendall(request)  # a complete request, and the client does not read the answer
    until(lambda: kept(redis_server))
    assert [callback.body.encode() for callback in kept(redis_server)] == [body]
    assert "Traceback" not in web.output[before:]


def peak_mib(web: WebProcess) -> float:
    """Return the peak memory of the process (VmHWM)."""
    return resident_mib(web.process.pid, peak=True)
