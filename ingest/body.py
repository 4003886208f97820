"""Reading a request's body: limited in size, in time, and in what this process may hold in memory."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from starlette.types import Message, Receive, Scope

from ingest import answers
from ingest.answers import Refused
from ingest.server_connection import connection_of

# What a request holds besides its body: the server's and Python's objects, and its entry in the commit's queue.
REQUEST_BYTES: Final = 4096

# An ordinary client writes its whole body before it reads the answer. If we closed the connection at once, it would see
# a reset instead of the answer. So a refused body is read and discarded, up to these limits.
DISCARD_BYTES: Final = 16 << 20
DISCARD_SECONDS: Final = 3.0
# Of a body that is refused unread, so much goes to the quarantine: it shows who sends what.
COPY_BYTES: Final = 64 << 10
# What a request holds while such a copy is read and stored.
HELD_COPY_BYTES: Final = COPY_BYTES + REQUEST_BYTES


class ClientDisconnected(Exception):
    """The client closed the connection before its body was complete: there is nobody to answer and nothing to store."""


class BodyTooLarge(Refused):
    """The body is larger than the limit, and was not read to its end: `head` are its first bytes."""

    def __init__(self, limit_bytes: int, head: bytes) -> None:
        self.head = head
        super().__init__(replace(answers.body_too_large(limit_bytes), body_begun=True))


class InFlight:
    """Counts the bytes that requests hold, from their first byte to their answer, and refuses beyond a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def reserve(self, number_bytes: int) -> None:
        """Count `number_bytes` more. Raise Refused (503), and count nothing, if that exceeds the limit."""
        if self.held_bytes + number_bytes > self.limit_bytes:
            raise Refused(answers.overload())
        self.held_bytes += number_bytes

    def release(self, number_bytes: int) -> None:
        """Count `number_bytes` less."""
        self.held_bytes -= number_bytes

    @contextlib.contextmanager
    def room(self, number_bytes: int) -> Iterator[bool]:
        """Count `number_bytes` more until the end of the block, and yield True; yield False if there is no room."""
        has_room = self.held_bytes + number_bytes <= self.limit_bytes
        held_bytes = number_bytes if has_room else 0
        self.held_bytes += held_bytes
        try:
            yield has_room
        finally:
            self.held_bytes -= held_bytes


async def read(
    scope: Scope, receive: Receive, *, limit_bytes: int, timeout_seconds: float, in_flight: InFlight
) -> bytes:
    """Return the whole body. Its size and REQUEST_BYTES are then reserved in `in_flight`; the caller releases them.

    Raise Refused (413, 408, 503) and ClientDisconnected, with nothing reserved.
    """
    connection = connection_of(scope)
    body = None if connection is None else connection.take_body(limit_bytes)
    if body is None:
        return await _receive(receive, limit_bytes=limit_bytes, timeout_seconds=timeout_seconds, in_flight=in_flight)
    in_flight.reserve(len(body) + REQUEST_BYTES)
    return body


async def _receive(receive: Receive, *, limit_bytes: int, timeout_seconds: float, in_flight: InFlight) -> bytes:
    """Do as `read` for a body that has not arrived yet."""
    in_flight.reserve(REQUEST_BYTES)
    held_bytes = REQUEST_BYTES
    whole = bytearray()
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                message = await receive()
                chunk = _chunk(message, limit_bytes - len(whole))
                in_flight.reserve(len(chunk))
                held_bytes += len(chunk)
                if not message.get("more_body"):
                    return bytes(whole + chunk) if whole else chunk
                whole += chunk
    except _TooLarge as exc:
        in_flight.release(held_bytes)
        raise BodyTooLarge(limit_bytes, bytes(whole[:COPY_BYTES] + exc.chunk)[:COPY_BYTES]) from None
    except TimeoutError:
        in_flight.release(held_bytes)
        raise Refused(replace(answers.body_too_slow(timeout_seconds), body_begun=True)) from None
    except Refused as exc:
        in_flight.release(held_bytes)
        raise Refused(replace(exc.answer, body_begun=True)) from None
    except BaseException:
        in_flight.release(held_bytes)
        raise


async def discard(receive: Receive, *, keep_bytes: int = 0) -> bytes:
    """Read the rest of a refused body, up to DISCARD_BYTES and DISCARD_SECONDS, and return its first `keep_bytes`."""
    left_bytes = DISCARD_BYTES
    head = bytearray()
    with contextlib.suppress(TimeoutError, ClientDisconnected, _TooLarge):
        async with asyncio.timeout(DISCARD_SECONDS):
            more = True
            while more and left_bytes > 0:
                message = await receive()
                chunk = _chunk(message, DISCARD_BYTES)
                left_bytes -= len(chunk)
                head += chunk[: keep_bytes - len(head)]
                more = message.get("more_body", False)
    return bytes(head)


def _chunk(message: Message, limit_bytes: int) -> bytes:
    if message["type"] != "http.request":
        raise ClientDisconnected
    chunk: bytes = message.get("body", b"")
    if len(chunk) > limit_bytes:
        raise _TooLarge(chunk[:COPY_BYTES])
    return chunk


class _TooLarge(Exception):
    """The body is larger than the limit. `chunk` is the first part beyond it, or its first COPY_BYTES."""

    def __init__(self, chunk: bytes) -> None:
        self.chunk = chunk
        super().__init__()
