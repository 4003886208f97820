"""Requests are written one after the other, each in one piece, although many are on their way at once.

When many answers come at the same moment, asyncio works on all of the next requests by turns, a step of each, so that
the first of them goes out about when the last does, and the answers come back at the same moment again: with 32 at a
time the target stands idle for a fifth of the time (measured in benchmarks/forward.py). A request whose turn it is
goes out before the next is begun, so the answers come spread over time and find the process ready.

Nobody keeps the turn while the other side is waited for: a large request is written without it, and what is not written
at once, because the target does not read, loses it.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any, Final

import httpcore

# A request that is larger goes out in several pieces: what waits here is memory.
_MAX_BUFFER_BYTES: Final = 64 << 10
# To sign and write a request takes a millisecond: after so long it is the target that is waited for.
_MAX_SECONDS: Final = 1.0


class WriteLock:
    """The right of one connection to prepare and write a request. All that share `lock` have it one after the other."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._end: asyncio.TimerHandle | None = None

    async def acquire(self) -> None:
        """Wait for it. It is given back after a second at the latest."""
        await self._lock.acquire()
        self._end = asyncio.get_running_loop().call_later(_MAX_SECONDS, self.release)

    def release(self) -> None:
        """Let the next one have it, if this one has it still."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
            self._lock.release()


class WriteLockBackend(httpcore.AsyncNetworkBackend):
    """Connects as `network` does, and gives the turn back while it waits: for a connection, then for each answer."""

    def __init__(self, network: httpcore.AsyncNetworkBackend, write_lock: WriteLock) -> None:
        self._network = network
        self._write_lock = write_lock
        self._stream: httpcore.AsyncNetworkStream | None = None

    def pop_stream(self) -> httpcore.AsyncNetworkStream | None:
        """Return the stream that was connected last, for the caller to close; None if it was released before.

        It is the one below TLS, so closing it closes the connection however far that has come.
        """
        stream, self._stream = self._stream, None
        return stream

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 # httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect."""
        self._write_lock.release()
        stream = await self._network.connect_tcp(
            host, port, timeout=timeout, local_address=local_address, socket_options=socket_options
        )
        self._stream = stream
        return _BufferedStream(stream, self._write_lock)


class _BufferedStream(httpcore.AsyncNetworkStream):
    """Keeps what is written until an answer is asked for: head and body of a request are then one system call."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, write_lock: WriteLock) -> None:
        self._stream = stream
        self._write_lock = write_lock
        self._waiting = b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 # httpcore's interface
        self._waiting += buffer
        if len(self._waiting) > _MAX_BUFFER_BYTES:
            self._write_lock.release()
            await self._flush(timeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 # likewise
        if self._waiting:
            # As httpcore does with an error while it writes: the target may have answered before it hung up.
            with contextlib.suppress(httpcore.WriteError):
                await self._flush(timeout)
        self._write_lock.release()
        return await self._stream.read(max_bytes, timeout)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 # likewise
    ) -> httpcore.AsyncNetworkStream:
        return _BufferedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._write_lock)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    async def _flush(self, timeout: float | None) -> None:  # noqa: ASYNC109 # likewise
        waiting, self._waiting = self._waiting, b""
        await self._stream.write(waiting, timeout)
