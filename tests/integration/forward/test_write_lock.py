"""Concurrent requests: each goes out before the next is prepared, and in one piece."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore
import pytest

from callbacks import samples
from tests.integration.forward.services import DELIVERED, SECRET, Request, says, serving, target
from workers.handlers.forward import sender
from workers.handlers.forward.sender import HandlerReturn, Sender
from workers.handlers.forward.signature import Signer

AT_ONCE = 8


class RecordingBackend(httpcore.AsyncNetworkBackend):
    """Connects, and records what is written and when."""

    def __init__(self, log: list[str], *, connect_seconds: float = 0.0) -> None:
        self._log = log
        self._connect_seconds = connect_seconds

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 # httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self._log.append("connects")
        await asyncio.sleep(self._connect_seconds)
        return RecordingStream(await httpcore.AnyIOBackend().connect_tcp(host, port, timeout=timeout), self._log)


class RecordingStream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream, log: list[str]) -> None:
        self._stream = stream
        self._log = log

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 # httpcore's interface
        self._log.append("written whole" if b"POST" in buffer and buffer.endswith(b"}") else "written")
        await self._stream.write(buffer, timeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 # likewise
        return await self._stream.read(max_bytes, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def record_requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list that records when a request is prepared."""
    log: list[str] = []

    class RecordingSigner(Signer):
        def headers(self, event_id: str, body: str) -> Mapping[str, str]:
            log.append("prepared")
            return super().headers(event_id, body)

    monkeypatch.setattr(sender, "Signer", RecordingSigner)
    return log


def sent_at_once(to: Sender, number: int) -> list[HandlerReturn]:
    async def send() -> list[HandlerReturn]:
        async with to.open():
            first = await asyncio.gather(*(to.send(samples.report()) for _ in range(number)))
            return [*first, *await asyncio.gather(*(to.send(samples.report()) for _ in range(number)))]

    return asyncio.run(send())


def test_a_request_goes_out_whole_before_the_next_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    log = record_requests(monkeypatch)
    with serving(says(200)) as service:
        to = Sender(target(service.url, CONCURRENCY=str(AT_ONCE)), network=RecordingBackend(log))

        assert sent_at_once(to, AT_ONCE) == [DELIVERED] * 2 * AT_ONCE

    assert len(service.requests) == 2 * AT_ONCE
    # Over connections that are open by now.
    assert log[-2 * AT_ONCE :] == ["prepared", "written whole"] * AT_ONCE


def test_no_request_waits_for_the_connection_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    log = record_requests(monkeypatch)
    with serving(says(200)) as service:
        to = Sender(target(service.url, CONCURRENCY=str(AT_ONCE)), network=RecordingBackend(log, connect_seconds=0.2))
        sent_at_once(to, AT_ONCE)

    assert log[: 2 * AT_ONCE] == ["prepared", "connects"] * AT_ONCE, "all of them connect at the same time"


def test_requests_wait_for_their_responses_at_the_same_time() -> None:
    all_there = asyncio.Barrier(AT_ONCE)

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await all_there.wait()
        await says(200)(request, writer)

    with serving(answer) as service:
        to = Sender(target(service.url, CONCURRENCY=str(AT_ONCE), TIMEOUT_SECONDS="10"))

        assert sent_at_once(to, AT_ONCE) == [DELIVERED] * 2 * AT_ONCE


def test_a_cancelled_request_releases_the_lock() -> None:
    with serving(says(200)) as service:
        to = Sender(target(service.url, CONCURRENCY="2"))

        async def send() -> list[HandlerReturn]:
            async with to.open():
                cancelled = asyncio.create_task(to.send(samples.report()))
                await asyncio.sleep(0)
                cancelled.cancel()
                await asyncio.gather(cancelled, return_exceptions=True)
                return [await asyncio.wait_for(to.send(samples.report()), 10) for _ in range(3)]

        assert asyncio.run(send()) == [DELIVERED] * 3


def test_a_response_that_comes_before_a_write_error_counts() -> None:
    class Deaf(RecordingStream):
        async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
            await super().write(buffer, timeout)
            raise httpcore.WriteError

    class Network(RecordingBackend):
        async def connect_tcp(self, host: str, port: int, *rest: Any, **named: Any) -> httpcore.AsyncNetworkStream:
            return Deaf(await super().connect_tcp(host, port, *rest, **named), [])

    with serving(says(413, b"too large")) as service:
        (found, *_) = sent_at_once(Sender(target(service.url, SECRETS=SECRET), network=Network([])), 1)

    assert "413" in str(found)


def test_a_target_that_stops_reading_a_large_request_delays_no_other() -> None:
    large = samples.report(raw={"text": "x" * (8 << 20)})
    is_over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                if size > 1 << 20:
                    await is_over.wait()
                await reader.readexactly(size)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def send() -> tuple[list[HandlerReturn], list[bool]]:
        async with await asyncio.start_server(talk, "127.0.0.1") as server:
            port = server.sockets[0].getsockname()[1]
            to = Sender(target(f"http://127.0.0.1:{port}/", CONCURRENCY="4", TIMEOUT_SECONDS="20"))
            async with to.open():
                # Open the connections first: a request that has to wait for one has released the lock.
                await asyncio.gather(*(to.send(samples.report()) for _ in range(4)))
                stuck = [asyncio.create_task(to.send(large)) for _ in range(3)]
                found = [await to.send(samples.report()) for _ in range(3)]
                ended = [call.done() for call in stuck]
                for call in stuck:
                    call.cancel()
                await asyncio.gather(*stuck, return_exceptions=True)
                is_over.set()
                return found, ended

    found, ended = asyncio.run(send())

    assert found == [DELIVERED] * 3
    assert not any(ended), "none of the others waited for these"
