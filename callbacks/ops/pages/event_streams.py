"""Server-sent events for pages that stay open.

A connection is a task and uses no thread. It ends when the browser disconnects, the process stops, the session ends or
the browser stops reading. The number of connections is limited.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# A browser opens a few; a wall of screens has some dozens.
MAX_STREAMS: Final = 64
# Proxies close a connection that is idle for about a minute.
_KEEPALIVE_SECONDS: Final = 15.0
# The browser has stopped reading if a message cannot be sent within this time.
_SEND_SECONDS: Final = 20.0
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # Else nginx would buffer it.
    (b"x-accel-buffering", b"no"),
]


class EventStreams:
    """The open connections. `may_go_on` is asked every now and then whether a request's session still holds."""

    def __init__(self, is_session_valid: Callable[[Request], Awaitable[bool]], *, most: int = MAX_STREAMS) -> None:
        self._is_session_valid = is_session_valid
        self._free = most
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Close all connections; called when the process stops."""
        self._closing.set()

    def respond(self, request: Request, events: AsyncGenerator[str, None]) -> ASGIApp:
        """Return a response that sends `events`, each made by `format_event`; 503 if there are too many connections."""
        if not self._free or self._closing.is_set():
            return PlainTextResponse("Too many open pages. Try again later.\n", 503, {"retry-after": "30"})

        async def stream(_scope: Scope, receive: Receive, send: Send) -> None:
            with self._reserve():
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                ends = [self._send(request, events, send), _until_disconnected(receive), self._closing.wait()]
                tasks = [asyncio.ensure_future(end) for end in ends]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in tasks:
                        task.cancel()
                    ended = await asyncio.gather(*tasks, return_exceptions=True)
            for fault in ended:
                if isinstance(fault, Exception) and not isinstance(fault, TimeoutError | OSError):
                    raise fault
            with suppress(OSError):
                await send({"type": "http.response.body", "body": b""})

        return stream

    @contextmanager
    def _reserve(self) -> Iterator[None]:
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    async def _send(self, request: Request, events: AsyncGenerator[str, None], send: Send) -> None:
        following: asyncio.Future[str] | None = None
        try:
            while await self._is_session_valid(request):
                following = following or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait([following], timeout=_KEEPALIVE_SECONDS)
                text = ": keep-alive\n\n"
                if done:
                    try:
                        text = following.result()
                    except StopAsyncIteration:
                        return
                    following = None
                async with asyncio.timeout(_SEND_SECONDS):
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            await events.aclose()


def format_event(name: str, text: str) -> str:
    """Return one event in the format of the HTML standard, section 9.2."""
    return f"event: {name}\n" + "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
