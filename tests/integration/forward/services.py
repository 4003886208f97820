"""A target on loopback, in a thread of its own: it counts connections and answers as a test says."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from callbacks import Delivered, Event
from shared import keys
from tests.integration.harness import Harness
from workers.handlers.forward import targets
from workers.handlers.forward.sender import HandlerReturn, Sender
from workers.handlers.forward.targets import Target

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET: Final = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


class _AnyDelivered:
    """Equal to what a sender returns of an event that its target took, whatever the target answered."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delivered)

    __hash__ = None  # type: ignore[assignment]


DELIVERED: Final[object] = _AnyDelivered()


@dataclass(frozen=True)
class Request:
    """One request as it arrived; the names of `headers` are in lower case."""

    target: str
    headers: Mapping[str, str]
    body: bytes
    number: int
    """1 for the service's first request."""


@dataclass
class Service:
    """What a test sees of the running service."""

    url: str = ""
    connections: int = 0
    requests: list[Request] = field(default_factory=list)


Answer: TypeAlias = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def says(status: int, body: bytes = b"", *, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer that is the same for each request."""

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


def writes(data: bytes, *, then_close: bool = True) -> Answer:
    """Return an answer of these bytes, after which the connection is closed or stays silent."""

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if then_close:
            writer.close()
        else:
            await asyncio.sleep(60)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Return an answer that uses `answers` in turn; the last one is repeated."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await answers[min(request.number, len(answers)) - 1](request, writer)

    return answer


@contextmanager
def serving(answer: Answer, *, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Service]:
    """Run a service; what it received grows while it runs."""
    service = Service()
    loop = asyncio.new_event_loop()
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        service.connections += 1
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                request = Request(head[0].split()[1], headers, body, len(service.requests) + 1)
                service.requests.append(request)
                await answer(request, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(loop.create_task(talk(reader, writer)))

    async def start() -> asyncio.Server:
        server = await asyncio.start_server(begin, "127.0.0.1", port, ssl=tls)
        service.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/events?key=s3cr3t"
        return server

    async def stop() -> None:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await asyncio.sleep(0.01)  # let the transports close

    server = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield service
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(timeout=60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def target(url: str, **options: str) -> Target:
    """Return a target on loopback, read from variables."""
    given = {"URL": url, "SECRETS": SECRET, "ALLOW_PRIVATE": "true", **options}
    (found,) = targets.read_targets({f"CALLBACKS_FORWARD_{name}": value for name, value in given.items()})
    return found


def sent(to: Sender | Target, *events: Event) -> list[HandlerReturn]:
    """Open a sender and send events one after the other, as a worker process does."""
    sender = Sender(to) if isinstance(to, Target) else to

    async def send(found: Sequence[Event]) -> list[HandlerReturn]:
        async with sender.open():
            return [await sender.send(event) for event in found]

    return asyncio.run(send(events))


def deliver_after_pause(harness: Harness, function: Callable[..., Any]) -> None:
    """Let the time of the pause be over, and deliver what can be."""
    if harness.connection.exists(keys.paused("forward")):
        harness.connection.hset(keys.paused("forward"), "until_ms", 1)
    harness.deliver(function)
