"""Malicious or broken responses: each has an outcome; none makes the handler raise or delays the next event."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

import pytest

from callbacks import samples
from tests.integration.forward.services import DELIVERED, Request, serving, target
from workers.handlers.forward import sender as sending
from workers.handlers.forward.sender import Sender

NUMBERS: Final = ("-1", "9" * 10, "9" * 20, "9" * 5000, "1e400", "nan", "inf", "\xb2", "\xff", "0x5", "1_0", "", "\x00")
LITERAL: Final = (
    *(f"HTTP/1.1 503 Busy\r\nRetry-After: {number}\r\nContent-Length: 0\r\n\r\n" for number in NUMBERS),
    *(f"HTTP/1.1 429 Busy\r\nRetry-After: Mon, 01 Jan {number} 00:00:00 GMT\r\n\r\n" for number in NUMBERS),
    *(f"HTTP/1.1 200 OK\r\nContent-Length: {number}\r\n\r\nabc" for number in NUMBERS),
    *(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{number}\r\nabc\r\n" for number in NUMBERS),
    *(f"HTTP/1.1 {number} What\r\nContent-Length: 0\r\n\r\n" for number in (*NUMBERS, "000", "099", "20", "2000")),
    *(
        f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n"
        for location in (*NUMBERS, "//", "http://[", "http://\xff/")
    ),
    "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nabc",
    "HTTP/0.9 200 OK\r\n\r\n",
    "HTTP/99.99 200 OK\r\n\r\n",
)
TOKENS: Final = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b"\xff",
    b" ",
    b":",
    b"0",
    b"1xx",
    b"HTTP/1.1 ",
    b"Connection: close\r\n",
)


@pytest.fixture(autouse=True)
def short_body_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "BODY_SECONDS", 0.05)


def sent_after_each(answers: Sequence[bytes]) -> None:
    """Send an event for each of `answers`, and one more when the target answers 200 again."""
    answering = [b""]

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answering[0])
        writer.write_eof()

    async def send(url: str) -> None:
        to = Sender(target(url, CONCURRENCY="1", TIMEOUT_SECONDS="10"))
        async with to.open():
            for answering[0] in answers:
                await to.send(samples.report())  # whatever comes of it, it does not raise
            answering[0] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            assert await to.send(samples.report()) == DELIVERED

    with serving(answer) as service:
        asyncio.run(send(service.url))


def test_no_value_that_a_target_writes_makes_the_handler_raise() -> None:
    sent_after_each([text.encode("latin-1") for text in LITERAL])


def test_no_bytes_that_a_target_writes_make_the_handler_raise() -> None:
    drawn = random.Random(5)
    answers = []
    for _ in range(300):
        data = drawn.choice(LITERAL).encode("latin-1")[:500]
        for _ in range(drawn.randint(1, 4)):
            start = drawn.randint(0, len(data))
            data = data[:start] + drawn.choice(TOKENS) + data[start + drawn.randint(0, 6) :]
        answers.append(data)

    sent_after_each(answers)
