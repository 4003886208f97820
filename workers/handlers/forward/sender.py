"""One target: its connections, one request for each event, and what becomes of the event.

An event is sent over a connection that is kept alive, as long as the worker process lives; nothing is taken from the
environment (no proxy, no .netrc), no redirect is followed, and of an answer no more is read than is of use.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Final, TypeAlias

import httpcore
import httpx

from callbacks import Event, Pause, Reject, Retry
from workers.handlers.forward import addresses, answers, cloud_event
from workers.handlers.forward.answers import Answer, Refused, Taken, Trouble, Verdict
from workers.handlers.forward.breaker import Breaker
from workers.handlers.forward.lines import Line
from workers.handlers.forward.refusals import AGAIN_SECONDS, Refusals
from workers.handlers.forward.signing import Signer
from workers.handlers.forward.targets import Target

Outcome: TypeAlias = Retry | Reject | Pause | None

# A host that is there is connected to within this; it is part of the target's whole time.
CONNECT_SECONDS: Final = 5.0
# An answer's body is read for the sake of its beginning, and of the connection, which can serve again after its end.
BODY_SECONDS: Final = 1.0
_BODY_MOST_BYTES: Final = 64 << 10
# How soon a host whose address may not be connected to is looked at again.
NOT_ALLOWED_SECONDS: Final = 60.0


class Sender:
    """Sends events to one target, while `opened` is entered. `network` is how it connects."""

    def __init__(self, target: Target, *, network: httpcore.AsyncNetworkBackend | None = None) -> None:
        self.target = target
        self._network = network or addresses.PinnedBackend(allow_private=target.allow_private)
        self._signer = Signer(target.secrets)
        self._breaker = Breaker()
        self._refusals = Refusals()
        self._lines: asyncio.LifoQueue[Line] | None = None
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
    async def opened(self) -> AsyncIterator[None]:
        """Keep connections to the target, and close them at the end."""
        ca = self.target.ca
        tls = ssl.create_default_context(cafile=ca) if ca else httpx.create_ssl_context(trust_env=False)
        # The one last used is used next, so that no more are kept alive than are of use.
        self._lines = asyncio.LifoQueue()
        lock = asyncio.Lock()
        await addresses.warm()
        async with AsyncExitStack() as stack:
            for _ in range(self.target.concurrency):
                line = Line(self._url.origin, tls=tls, network=self._network, lock=lock)
                stack.push_async_callback(line.aclose)
                self._lines.put_nowait(line)
            yield
        self._lines = None

    async def send(self, event: Event) -> Outcome:
        """Send one event; return what is to become of it, None if the target has it."""
        pauses, began = self._breaker.begin(), self._refusals.begin()
        try:
            verdict = await self._verdict(event)
        except addresses.NotAllowed as exc:
            # What is wrong is the configuration, or the DNS: no event is to suffer for it, and none would fare better.
            return Pause(NOT_ALLOWED_SECONDS, f"{self.target.name}: {exc}; if that is meant, set its ALLOW_PRIVATE")
        match verdict:
            case Taken():
                self._breaker.succeeded()
                self._refusals.accepted(began, event.id)
                return None
            case Refused():
                self._breaker.succeeded()
                return Reject(f"{self.target.shown} {verdict.reason}")
            case Trouble():
                return self._trouble(event, verdict, pauses)

    def _trouble(self, event: Event, trouble: Trouble, pauses: int) -> Outcome:
        reason = f"{self.target.shown} {trouble.reason}"
        after_seconds = trouble.asked_seconds
        if trouble.is_refusal:
            is_final = self._refusals.refused(event.id)
            if is_final:
                return Reject(reason)
            if is_final is not None:
                # It is known that others are accepted: this says nothing of the target.
                return Retry(AGAIN_SECONDS, reason)
            after_seconds = None
        seconds = self._breaker.failed(
            pauses, event.id, asked_seconds=trouble.asked_seconds, is_refusal=trouble.is_refusal
        )
        if seconds is not None:
            return Pause(seconds, f"{self.target.shown} {trouble.brief}")
        if trouble.is_refusal and self._breaker.failures == 1:
            after_seconds = AGAIN_SECONDS
        return Retry(after_seconds, reason)

    async def _verdict(self, event: Event) -> Verdict:
        if self._lines is None:
            raise RuntimeError(f"{self.target.name} was not opened")
        line = await self._lines.get()
        try:
            answer = await self._answer(line, event)
        except answers.FAILURES as exc:
            return answers.failed(exc)
        finally:
            self._lines.put_nowait(line)
        return answers.judged(answer, now=datetime.now(UTC))

    def _request(self, event: Event) -> httpcore.Request:
        body = cloud_event.of(event)
        data = body.encode()
        headers = {**self._headers, **self._signer.headers(event.id, body), "Content-Length": str(len(data))}
        return httpcore.Request(
            "POST",
            self._url,
            headers=list(headers.items()),
            content=data,
            extensions={"timeout": {"connect": CONNECT_SECONDS}},
        )

    async def _answer(self, line: Line, event: Event) -> Answer:
        async with line.connection() as use:
            async with asyncio.timeout(self.target.timeout_seconds):
                await line.turn.take()
                response = await use.connection.handle_async_request(self._request(event))
            beginning, is_whole = await _beginning(response)
            if is_whole:
                await response.aclose()
                use.complete()
        retry_after = next((value for name, value in response.headers if name.lower() == b"retry-after"), None)
        return Answer(response.status, None if retry_after is None else retry_after.decode("latin-1"), beginning)


async def _beginning(response: httpcore.Response) -> tuple[bytes, bool]:
    """Read what an answer's body begins with; return it, and whether the body was read to its end.

    However it ends changes nothing for the event: the status is known.
    """
    beginning, size = b"", 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in response.aiter_stream():
                beginning += part[: answers.BODY_BYTES - len(beginning)]
                size += len(part)
                if size > _BODY_MOST_BYTES:
                    return beginning, False
    except answers.FAILURES:
        return beginning, False
    return beginning, True
