"""A receiver of callbacks on loopback, in a thread of its own: real sockets, real TLS, scripted answers."""

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from aiohttp import web


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    content_type: str
    body: bytes
    number: int
    """1 for the first request of the receiver's life."""
    attempt: int
    """1 for the first request with these reports, or with this reply whatever its req_uuid."""


Answer: TypeAlias = Callable[[Request], Awaitable[web.Response]]


@dataclass
class Receiver:
    """What a test sees of the running server."""

    base: str
    requests: list[Request] = field(default_factory=list)


def always(status: int, *, headers: dict[str, str] | None = None, text: str = "") -> Answer:
    """Answer every request alike."""

    async def answer(_request: Request) -> web.Response:
        return web.Response(status=status, headers=headers, text=text or None)

    return answer


def content(body: bytes) -> object:
    """Return what a body says, without what is new at every attempt."""
    said: dict[str, object] = json.loads(body)
    return {key: value for key, value in said.items() if key != "req_uuid"}


@contextmanager
def receiving(answer: Answer, *, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver that answers as told; its `requests` grow as they arrive."""
    loop = asyncio.new_event_loop()
    scheme = "https" if tls else "http"
    receiver = Receiver("")
    seen: list[object] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        arrived = Request(
            method=request.method,
            path=request.path_qs,
            content_type=request.headers.get("Content-Type", ""),
            body=body,
            number=len(receiver.requests) + 1,
            attempt=seen.count(content(body)) + 1,
        )
        receiver.requests.append(arrived)
        seen.append(content(body))
        return await answer(arrived)

    async def start() -> web.ServerRunner:
        runner = web.ServerRunner(web.Server(handle, handler_cancellation=True), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        receiver.base = f"{scheme}://127.0.0.1:{port}/callbacks/s3cr3t-token"
        return runner

    async def stop() -> None:
        # Connections whose client has left may still wait to be accepted. Python 3.11 loses the socket
        # of one that is accepted while the server closes.
        await asyncio.sleep(0.01)
        await runner.cleanup()

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield receiver
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(timeout=60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
