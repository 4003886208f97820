"""Reading a request's body: within a size, within a time, within what this process may hold in memory.

The time-box is free when the body is already there, which it is for nearly every callback: asyncio.timeout would
cost 8 µs of the 50 that a callback takes, the step below 0.5 (measured with uvloop on CPython 3.11).
"""

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any, Final

from starlette.types import Message, Receive

from ingest import problems
from ingest.problems import Refused

# What a request holds beside its body: the server's and Python's objects, and its place in the queue of the commit.
REQUEST_BYTES: Final = 4096

# An ordinary client writes its whole body before it reads the answer, and would see a reset connection instead of
# the answer if we closed at once. So a refused body is read and thrown away, up to these.
DISCARD_BYTES: Final = 16 << 20
DISCARD_SECONDS: Final = 3.0


class ClientDisconnected(Exception):
    """The client closed the connection before its body was whole: there is nobody to answer, and nothing to keep."""


class InFlight:
    """Counts the bytes that requests hold, from their first until their answer, and refuses beyond a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def reserve(self, number_bytes: int) -> None:
        """Count `number_bytes` more. Raises Refused (503) if that is too much, and then counts nothing."""
        if self.held_bytes + number_bytes > self.limit_bytes:
            raise Refused(problems.overload())
        self.held_bytes += number_bytes

    def release(self, number_bytes: int) -> None:
        """Count `number_bytes` less."""
        self.held_bytes -= number_bytes


async def read(receive: Receive, *, limit_bytes: int, timeout_seconds: float, in_flight: InFlight) -> bytes:
    """Read the whole body. Its bytes and REQUEST_BYTES are then counted in `in_flight`, for the caller to give back.

    Raises Refused (413, 408, 503) and Gone, with nothing left counted.
    """
    in_flight.reserve(REQUEST_BYTES)
    held_bytes = REQUEST_BYTES
    try:
        message: Message | None = None
        first = receive().__await__()
        try:
            waits_for = next(first)
        except StopIteration as at_once:
            message = at_once.value
            if not message.get("more_body"):
                body = _part(message, limit_bytes)
                in_flight.reserve(len(body))
                return body
        whole = bytearray()
        async with asyncio.timeout(timeout_seconds):
            while True:
                if message is None:
                    message = await _Rest(first, waits_for)
                part = _part(message, limit_bytes - len(whole))
                in_flight.reserve(len(part))
                held_bytes += len(part)
                whole += part
                if not message.get("more_body"):
                    return bytes(whole)
                message = await receive()
    except _TooLarge:
        in_flight.release(held_bytes)
        raise Refused(problems.too_large(limit_bytes)) from None
    except TimeoutError:
        in_flight.release(held_bytes)
        raise Refused(problems.too_slow(timeout_seconds)) from None
    except BaseException:
        in_flight.release(held_bytes)
        raise


async def discard(receive: Receive) -> None:
    """Read the rest of a refused body and throw it away, up to DISCARD_BYTES and DISCARD_SECONDS."""
    left_bytes = DISCARD_BYTES
    with contextlib.suppress(TimeoutError, ClientDisconnected, _TooLarge):
        async with asyncio.timeout(DISCARD_SECONDS):
            more = True
            while more and left_bytes > 0:
                message = await receive()
                left_bytes -= len(_part(message, DISCARD_BYTES))
                more = message.get("more_body", False)


def _part(message: Message, room_bytes: int) -> bytes:
    if message["type"] != "http.request":
        raise ClientDisconnected
    part: bytes = message.get("body", b"")
    if len(part) > room_bytes:
        raise _TooLarge
    return part


class _TooLarge(Exception):
    """The body is larger than the limit."""


class _Rest:
    """Awaits what is left of an awaitable that has been stepped once, and gave `waits_for` to the event loop."""

    def __init__(self, steps: Generator[Any, Any, Message], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Message]:
        try:
            yield self._waits_for
        except BaseException as exc:
            self._steps.throw(exc)  # a cancellation belongs to whoever waits inside
            raise
        return (yield from self._steps)
