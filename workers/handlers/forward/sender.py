"""Sends events to one target, one request for each, and decides what becomes of the event.

Connections are kept alive as long as the worker process lives. Nothing is read from the environment (no proxy, no
.netrc), redirects are not followed, and only the start of a response's body is read.
"""

import asyncio
import functools
import ssl
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Final, TypeAlias

import httpcore
import httpx

from callbacks import Delivered, Event, Pause, Reject, Retry
from workers.handlers.forward import addresses, cloud_event, responses
from workers.handlers.forward.circuit_breaker import CircuitBreaker
from workers.handlers.forward.connection import PersistentConnection
from workers.handlers.forward.refusals import RETRY_SECONDS, RefusalTracker
from workers.handlers.forward.responses import EventRefused, Response, SendResult, Sent, TargetFailed
from workers.handlers.forward.signature import Signer
from workers.handlers.forward.targets import Target

HandlerReturn: TypeAlias = Delivered | Retry | Reject | Pause

# The limit for connecting. It is part of the target's time-out.
CONNECT_SECONDS: Final = 5.0
# An answer's body is read for the sake of its beginning, and of the connection, which can serve again after its end.
BODY_SECONDS: Final = 1.0
_MAX_READ_BYTES: Final = 64 << 10
# When a host without an allowed address is tried again.
ADDRESS_PAUSE_SECONDS: Final = 60.0


class Sender:
    """Sends events to one target, while it is open. `network` is how it connects."""

    def __init__(self, target: Target, *, network: httpcore.AsyncNetworkBackend | None = None) -> None:
        self.target = target
        self._network = network or addresses.PinnedBackend(allow_private=target.allow_private)
        self._signer = Signer(target.secrets)
        self._breaker = CircuitBreaker()
        self._refusals = RefusalTracker()
        self._connections: asyncio.LifoQueue[PersistentConnection] | None = None
        url = target.url
        self._url = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        self._headers = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": "callbacks",
            "Accept": "*/*",
            "Content-Type": cloud_event.CONTENT_TYPE,
            **target.headers,
        }

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open connections to the target when needed, and close them at the end."""
        ca = self.target.ca
        tls = ssl.create_default_context(cafile=ca) if ca else httpx.create_ssl_context(trust_env=False)
        # The connection that was used last is used next, so that no more than necessary are kept alive.
        self._connections = asyncio.LifoQueue()
        lock = asyncio.Lock()
        await addresses.warm_up()
        async with AsyncExitStack() as stack:
            for _ in range(self.target.concurrency):
                connection = PersistentConnection(self._url.origin, tls=tls, network=self._network, lock=lock)
                stack.push_async_callback(connection.aclose)
                self._connections.put_nowait(connection)
            yield
        self._connections = None

    async def send(self, event: Event) -> HandlerReturn:
        """Send one event. Return what becomes of it, with what the target answered."""
        pauses, began = self._breaker.begin(), self._refusals.begin()
        try:
            result = await self._deliver(event.id, functools.partial(cloud_event.render, event))
        except addresses.AddressNotAllowed as exc:
            # The configuration or the DNS is wrong, which concerns all events: no attempt is counted.
            return Pause(ADDRESS_PAUSE_SECONDS, f"{self.target.name}: {exc}; if that is meant, set its ALLOW_PRIVATE")
        match result:
            case Sent():
                self._breaker.record_success()
                self._refusals.record_accepted(began, event.id)
                return Delivered(result.answer, result.detail)
            case EventRefused():
                self._breaker.record_success()
                return Reject(f"{self.target.redacted_url} {result.reason}")
            case TargetFailed():
                return self._handle_failure(event, result, pauses)

    async def forget(self, number: str) -> None:
        """Ask the target to erase what it has of a number. Raise Retry if it did not accept that."""
        event_id = uuid.uuid4().hex
        try:
            result = await self._deliver(event_id, functools.partial(cloud_event.render_forget, event_id, number))
        except addresses.AddressNotAllowed as exc:
            raise Retry(reason=str(exc)) from exc
        if not isinstance(result, Sent):
            raise Retry(reason=f"{self.target.redacted_url} {result.reason}")

    def _handle_failure(self, event: Event, failure: TargetFailed, pauses: int) -> HandlerReturn:
        reason = f"{self.target.redacted_url} {failure.reason}"
        after_seconds = failure.retry_after_seconds
        if failure.is_refusal:
            is_final = self._refusals.record_refused(event.id)
            if is_final:
                return Reject(reason)
            if is_final is not None:
                # The target accepts other events: this refusal says nothing about the target.
                return Retry(RETRY_SECONDS, reason)
            after_seconds = None
        seconds = self._breaker.record_failure(
            pauses, event.id, retry_after_seconds=failure.retry_after_seconds, is_refusal=failure.is_refusal
        )
        if seconds is not None:
            return Pause(seconds, f"{self.target.redacted_url} {failure.brief}")
        if failure.is_refusal and self._breaker.failures == 1:
            after_seconds = RETRY_SECONDS
        return Retry(after_seconds, reason)

    async def _deliver(self, event_id: str, render: Callable[[], str]) -> SendResult:
        """Send what `render` returns; it is called when the request can be written."""
        if self._connections is None:
            raise RuntimeError(f"{self.target.name} is not open")
        connection = await self._connections.get()
        try:
            response = await self._post(connection, event_id, render)
        except responses.NETWORK_ERRORS as exc:
            return responses.interpret_error(exc)
        finally:
            self._connections.put_nowait(connection)
        return responses.interpret_response(response, now=datetime.now(UTC))

    def _request(self, event_id: str, body: str) -> httpcore.Request:
        data = body.encode()
        headers = {**self._headers, **self._signer.headers(event_id, body), "Content-Length": str(len(data))}
        return httpcore.Request(
            "POST",
            self._url,
            headers=list(headers.items()),
            content=data,
            extensions={"timeout": {"connect": CONNECT_SECONDS}},
        )

    async def _post(self, connection: PersistentConnection, event_id: str, render: Callable[[], str]) -> Response:
        async with connection.use() as use:
            async with asyncio.timeout(self.target.timeout_seconds):
                await connection.write_lock.acquire()
                response = await use.connection.handle_async_request(self._request(event_id, render()))
            body_start, is_whole = await _read_body_start(response)
            if is_whole:
                await response.aclose()
                use.mark_complete()
        retry_after = next((value for name, value in response.headers if name.lower() == b"retry-after"), None)
        return Response(response.status, None if retry_after is None else retry_after.decode("latin-1"), body_start)


async def _read_body_start(response: httpcore.Response) -> tuple[bytes, bool]:
    """Return the start of a response's body, and whether the body was read to its end.

    A failure here changes nothing for the event, because the status is known.
    """
    body_start, size = b"", 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in response.aiter_stream():
                body_start += part[: responses.MAX_BODY_BYTES - len(body_start)]
                size += len(part)
                if size > _MAX_READ_BYTES:
                    return body_start, False
    except responses.NETWORK_ERRORS:
        return body_start, False
    return body_start, True
