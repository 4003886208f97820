"""Requests on their way at once: each goes out before the next is begun, and in one piece."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore
import pytest

from callbacks import samples
from tests.integration.forward.services import SECRET, Request, says, serving, target
from workers.handlers.forward import sender
from workers.handlers.forward.sender import HandlerReturn, Sender
from workers.handlers.forward.signature import Signer

AT_ONCE = 8


class Witness(httpcore.AsyncNetworkBackend):
    """Connects, and notes what is written and when."""

    def __init__(self, told: list[str], *, connect_seconds: float = 0.0) -> None:
        self._told = told
        self._connect_seconds = connect_seconds

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 # httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self._told.append("connects")
        await asyncio.sleep(self._connect_seconds)
        return Written(await httpcore.AnyIOBackend().connect_tcp(host, port, timeout=timeout), self._told)


class Written(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream, told: list[str]) -> None:
        self._stream = stream
        self._told = told

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 # httpcore's interface
        self._told.append("written whole" if b"POST" in buffer and buffer.endswith(b"}") else "written")
        await self._stream.write(buffer, timeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 # likewise
        return await self._stream.read(max_bytes, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the list in which it is noted when a request is begun."""
    told: list[str] = []

    class Noting(Signer):
        def headers(self, event_id: str, body: str) -> Mapping[str, str]:
            told.append("begun")
            return super().headers(event_id, body)

    monkeypatch.setattr(sender, "Signer", Noting)
    return told


def sent_at_once(to: Sender, number: int) -> list[HandlerReturn]:
    async def send() -> list[HandlerReturn]:
        async with to.open():
            first = await asyncio.gather(*(to.send(samples.report()) for _ in range(number)))
            return [*first, *await asyncio.gather(*(to.send(samples.report()) for _ in range(number)))]

    return asyncio.run(send())


def test_a_request_goes_out_whole_before_the_next_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    told = noted(monkeypatch)
    with serving(says(200)) as service:
        to = Sender(target(service.url, CONCURRENCY=str(AT_ONCE)), network=Witness(told))

        assert sent_at_once(to, AT_ONCE) == [None] * 2 * AT_ONCE

    assert len(service.requests) == 2 * AT_ONCE
    again = told[-2 * AT_ONCE :]  # over connections that are there by now
    assert again == ["begun", "written whole"] * AT_ONCE


def test_nobody_waits_for_another_to_be_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    told = noted(monkeypatch)
    with serving(says(200)) as service:
        to = Sender(target(service.url, CONCURRENCY=str(AT_ONCE)), network=Witness(told, connect_seconds=0.2))
        sent_at_once(to, AT_ONCE)

    assert told[: 2 * AT_ONCE] == ["begun", "connects"] * AT_ONCE, "all are being connected before any is"


def test_all_of_them_wait_for_their_answers_at_the_same_time() -> None:
    all_there = asyncio.Barrier(AT_ONCE)

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await all_there.wait()
        await says(200)(request, writer)

    with serving(answer) as service:
        to = Sender(target(service.url, CONCURRENCY=str(AT_ONCE), TIMEOUT_SECONDS="10"))

        assert sent_at_once(to, AT_ONCE) == [None] * 2 * AT_ONCE


def test_a_request_that_is_given_up_leaves_the_turn_to_the_next() -> None:
    with serving(says(200)) as service:
        to = Sender(target(service.url, CONCURRENCY="2"))

        async def send() -> list[HandlerReturn]:
            async with to.open():
                given_up = asyncio.create_task(to.send(samples.report()))
                await asyncio.sleep(0)
                given_up.cancel()
                await asyncio.gather(given_up, return_exceptions=True)
                return [await asyncio.wait_for(to.send(samples.report()), 10) for _ in range(3)]

        assert asyncio.run(send()) == [None] * 3


def test_a_target_that_answers_and_hangs_up_while_it_is_written_to_is_heard() -> None:
    class Deaf(Written):
        async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
            await super().write(buffer, timeout)
            raise httpcore.WriteError

    class Network(Witness):
        async def connect_tcp(self, host: str, port: int, *rest: Any, **named: Any) -> httpcore.AsyncNetworkStream:
            return Deaf(await super().connect_tcp(host, port, *rest, **named), [])

    with serving(says(413, b"too large")) as service:
        (found, *_) = sent_at_once(Sender(target(service.url, SECRETS=SECRET), network=Network([])), 1)

    assert "413" in str(found)


def test_a_target_that_stops_reading_a_large_request_keeps_no_other_waiting() -> None:
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
                # Connections that are there: a request that has to wait for one has given its turn back.
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

    assert found == [None] * 3
    assert not any(ended), "nobody waited for the end of these"
