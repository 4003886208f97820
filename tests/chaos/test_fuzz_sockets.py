"""The fuzzer's bodies and mutilated requests, over real sockets, to a real web process on a real Redis.

FUZZ_SOCKET_BODIES posts more than the 1,500 of `make test`; CHAOS_SEED decides what is mutated how.
"""

import os
import random
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import httpx

from callbacks.cli import body_check
from shared import audit
from shared.batches import Quarantined, counted_kind
from tests.chaos.mutations import Posted, posted
from tests.memory import resident_mib
from tests.redis_server import RedisServer
from tests.web_process import MAX_BODY_BYTES, TOKEN, StartWeb, WebProcess, report

BODIES = int(os.environ.get("FUZZ_SOCKET_BODIES", "1500"))
REQUESTS = max(600, BODIES // 5)
# What docs/guarantees.md says that the gateway is answered, and no other: above all no 5xx but 503.
DOCUMENTED = {200, 400, 403, 404, 405, 408, 413, 415, 431, 503}
# Python's and the allocator's own caches fill within the first requests, some MiB; a leak of one of the bodies
# (500 bytes) or one of the requests' objects (4 KiB) for each request would be more than this after 20,000.
GROWTH_MIB = 20

REQUEST = b"POST /callbacks/%s/status HTTP/1.1\r\nHost: x\r\n" % TOKEN.encode()
PIECES = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"%0a", b"%00", b"//", b"/../", b"?", b"#", b"\xff", b"HTTP/1.0",
    b"HTTP/2.0", b"HTTP/9.9", b"CONNECT ", b"GET ", b"PRI * ", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Host: y\r\n",
    b"Content-Encoding: gzip\r\n", b"Content-Type: multipart/x\r\n", b"X-Forwarded-For: 1.2.3.4\r\n",
    b"ffffffffffffffff\r\n", b"-1\r\n", b"0\r\n\r\n", b"5;x=y\r\n", b"a" * 9000, b"X: y\r\n" * 120,
)  # fmt: skip


def test_every_body_is_answered_as_documented_and_counted(
    start_web: StartWeb, redis_server: RedisServer, chaos_seed: int
) -> None:
    chance, web = random.Random(chaos_seed), start_web(redis_server)
    answers: Counter[int] = Counter()
    expected, refused = Counter[str](), set[tuple[str, bytes]]()
    growth = Growth(web)
    with web.client() as client, redis_server.client(decode_responses=False) as connection:
        for number in range(BODIES):
            if number == BODIES // 5:
                growth.begin()
            sent = posted(chance)
            path = f"/callbacks/{TOKEN}/{sent.kind or ''}"
            answer = client.post(path, content=sent.body, headers=sent.headers)
            assert _as_foretold(sent, answer, expected, refused), (number, answer.text, sent)
            answers[answer.status_code] += 1
        sums = audit.run(connection)
    counted = Counter(
        {f"{kind} received": totals.received for kind, totals in sums.records.items()}
        | {f"{kind} quarantined": totals.quarantined for kind, totals in sums.records.items()}
    )
    assert +counted == expected
    assert sums.balances
    assert sums.received == sums.waiting + sums.quarantined
    assert set(answers) == {200, 400, 413, 415}
    growth.end()
    assert "action=unexpected_error" not in web.output
    assert "Traceback" not in web.output


def test_every_mutilated_request_is_answered_as_documented_or_its_connection_ended(
    start_web: StartWeb, redis_server: RedisServer, chaos_seed: int
) -> None:
    chance = random.Random(chaos_seed)
    # Bodies that never come are part of it; nobody has ten seconds for each.
    hurried = (
        "import ingest.protocol, ingest.body\ningest.protocol.HEAD_SECONDS = 0.2\ningest.body.DISCARD_SECONDS = 0.1"
    )
    web = start_web(redis_server, prelude=hurried, CALLBACKS_BODY_TIMEOUT_SECONDS="0.2")
    answers: Counter[int] = Counter()
    growth = Growth(web)
    for number in range(REQUESTS):
        if number == REQUESTS // 5:
            growth.begin()
        sent = _mutilated(chance)
        for status in _answers(web, sent, ends=chance.random() < 0.9):
            assert status in DOCUMENTED | {100}, (status, sent)
            answers[status] += 1
    assert web.post(report(1)).status_code == 200
    with redis_server.client(decode_responses=False) as connection:
        sums = audit.run(connection)
    # Not every kept callback's answer reached us where the connection ended: but each that did was counted.
    assert sums.received >= answers[200] + 1
    assert sums.balances
    assert {200, 400, 404, 405} <= set(answers)
    growth.end()
    assert "action=unexpected_error" not in web.output
    assert "Traceback" not in web.output


class Growth:
    """Watches that it is the same process in the end, and hardly larger than when it was warm."""

    def __init__(self, web: WebProcess) -> None:
        self._web = web
        self._before_mib = 0.0

    def begin(self) -> None:
        self._before_mib = resident_mib(self._web.process.pid)

    def end(self) -> None:
        assert self._before_mib
        assert self._web.process.poll() is None
        assert resident_mib(self._web.process.pid) - self._before_mib < GROWTH_MIB


def _as_foretold(sent: Posted, answer: httpx.Response, expected: Counter[str], refused: set[tuple[str, bytes]]) -> bool:
    """Whether the answer is what `callbacks check` says of the body; counts what has to be in the audit for it.

    Of equal bodies that are refused there is one copy, which `refused` remembers.
    """
    headers = [(name.lower().encode(), value.encode()) for name, value in sent.headers.items()]
    foretold = body_check.answer(sent.body, headers, sent.kind, max_body_bytes=MAX_BODY_BYTES)
    for entry in foretold.entries:
        kind = counted_kind(entry.kind)
        if isinstance(entry, Quarantined):
            if entry.refused and (kind, entry.body) in refused:
                continue
            refused.add((kind, entry.body))
            expected[f"{kind} quarantined"] += entry.records
        expected[f"{kind} received"] += entry.records
    return (answer.status_code, answer.json()) == (foretold.status, foretold.document)


def _mutilated(chance: random.Random) -> bytes:
    """Return a request, or two, with a few bytes of its line, headers or framing cut, doubled, swapped or replaced."""
    body = report(chance.randrange(1000))
    if chance.random() < 0.5:
        framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:20], body[20:]))
        sent = bytearray(REQUEST + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n")
    else:
        sent = bytearray(REQUEST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    for _ in range(chance.randint(0, 3)):
        begin = chance.randrange(len(sent))
        end = begin + chance.choice((0, 1, 2, 8, 30))
        kind = chance.randrange(4)
        if kind == 0:
            sent[begin:end] = chance.choice(PIECES)
        elif kind == 1:
            del sent[begin:end]
        elif kind == 2:
            sent[begin:begin] = sent[begin:end]
        else:
            sent[begin] = chance.randrange(256)
    if chance.random() < 0.3:  # lines are where it hurts
        position = sent.find(b"\r\n") + 2
        sent[position:position] = chance.choice(PIECES)
    if chance.random() < 0.1:
        sent[: sent.find(b" ")] = chance.choice((b"PUT", b"HEAD", b"CONNECT", b"TRACE", b"post", b"NOTHING"))
    if chance.random() < 0.2:
        sent += _mutilated(chance)
    return bytes(sent)


def _answers(web: WebProcess, sent: bytes, *, ends: bool) -> Iterator[int]:
    """Send it, close our half or not, and give the status of each answer until the server ends the connection."""
    received = b""
    with socket.create_connection(("127.0.0.1", web.port), timeout=5) as connection, suppress(ConnectionError):
        connection.sendall(sent)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.5)
        with suppress(TimeoutError):  # one that is kept alive for the next request
            while piece := connection.recv(65536):
                received += piece
    for part in received.split(b"HTTP/1.1 ")[1:]:
        yield int(part[:3])
