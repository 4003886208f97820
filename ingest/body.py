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
DRAIN_BYTES: Final = 16 << 20
DRAIN_SECONDS: Final = 3.0


class Gone(Exception):
    """The client closed the connection before its body was whole: there is nobody to answer, and nothing to keep."""


class InFlight:
    """Counts the bytes that requests under way hold, from their first until their answer, and refuses beyond a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, number_bytes: int) -> None:
        """Count `number_bytes` more. Raises Refused (503) if that is too much, and then counts nothing."""
        if self.held_bytes + number_bytes > self.limit_bytes:
            raise Refused(problems.overload())
        self.held_bytes += number_bytes

    def give_back(self, number_bytes: int) -> None:
        """Count `number_bytes` less."""
        self.held_bytes -= number_bytes


async def read(receive: Receive, *, limit_bytes: int, timeout_seconds: float, in_flight: InFlight) -> bytes:
    """Read the whole body. Its bytes and REQUEST_BYTES are then counted in `in_flight`, for the caller to give back.

    Raises Refused (413, 408, 503) and Gone, with nothing left counted.
    """
    in_flight.take(REQUEST_BYTES)
    held_bytes = REQUEST_BYTES
    try:
        step = receive().__await__()
        try:
            first = next(step)
        except StopIteration as done:
            message: Message = done.value
        else:
            async with _time_box(timeout_seconds) as deadline:
                message = await _Rest(step, first)
            timeout_seconds = deadline - asyncio.get_running_loop().time()
        body = _part(message)
        _check(len(body), limit_bytes)
        in_flight.take(len(body))
        held_bytes += len(body)
        if not message.get("more_body"):
            return body
        parts = [body]
        async with _time_box(timeout_seconds):
            while message.get("more_body"):
                message = await receive()
                parts.append(_part(message))
                _check(held_bytes - REQUEST_BYTES + len(parts[-1]), limit_bytes)
                in_flight.take(len(parts[-1]))
                held_bytes += len(parts[-1])
        return b"".join(parts)
    except TimeoutError:
        in_flight.give_back(held_bytes)
        raise Refused(problems.too_slow(timeout_seconds)) from None
    except BaseException:
        in_flight.give_back(held_bytes)
        raise
