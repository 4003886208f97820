"""What the server's protocol offers beyond ASGI, on a real connection of the event loop."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from ingest import answers
from ingest.body import InFlight, read
from ingest.protocol import HttpProtocol
from ingest.server_connection import connection_of

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"


class Application:
    """Reads each body, and notes whether it was taken or received, and the protocols of the connections."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        self.protocols: weakref.WeakSet[HttpProtocol] = weakref.WeakSet()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = connection_of(scope)
        assert isinstance(connection, HttpProtocol)
        self.protocols.add(connection)
        how = "taken"

        async def receive_message() -> Message:
            nonlocal how
            how = "received"
            return await receive()

        body = await read(scope, receive_message, limit_bytes=100, timeout_seconds=30, in_flight=InFlight(1 << 20))
        self.bodies.append((how, body))
        await answers.ACCEPTED.send(scope, send)


@contextlib.asynccontextmanager
async def client(application: Application) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = uvicorn.Config(application, http=HttpProtocol, access_log=False, log_config=None)
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: HttpProtocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(0.01)


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(len(answers.ACCEPTED.body["body"]))


def test_a_body_that_arrived_with_its_head_is_taken_and_a_later_one_received() -> None:
    async def scenario() -> None:
        async with client(application) as (reader, writer):
            writer.write(HEAD + b"once")
            assert (await answer(reader)).startswith(b"HTTP/1.1 200 OK\r\n")
            writer.write(HEAD + b"in")
            await asyncio.sleep(0.05)
            writer.write(b"to")
            assert (await answer(reader)).startswith(b"HTTP/1.1 200 OK\r\n")

    application = Application()
    asyncio.run(scenario())
    assert application.bodies == [("taken", b"once"), ("received", b"into")]


def test_each_of_several_pipelined_requests_gets_its_own_body_and_an_answer() -> None:
    async def scenario() -> None:
        async with client(application) as (reader, writer):
            writer.write(HEAD + b"1st." + HEAD + b"2nd." + HEAD + b"3rd.")
            for _ in range(3):
                assert (await answer(reader)).endswith(answers.ACCEPTED.body["body"])

    application = Application()
    asyncio.run(scenario())
    # Until the last of them, the newest request of the connection is not the one that is answered.
    assert application.bodies == [("received", b"1st."), ("received", b"2nd."), ("taken", b"3rd.")]


def test_a_closed_connection_is_freed_without_a_collection() -> None:
    async def scenario() -> int:
        async with client(application) as (reader, writer):
            writer.write(HEAD + b"once")
            await answer(reader)
            assert len(application.protocols) == 1
        return len(application.protocols)

    application: Any = Application()
    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(scenario()) == 0
    finally:
        gc.enable()
