"""Makes concurrent requests go out one after the other, each in one piece.

Without it, when many responses arrive at the same moment, asyncio prepares all the next requests step by step in turn:
the first goes out almost when the last does, and the responses arrive at the same moment again. With 32 in flight the
target is then idle for a fifth of the time (measured in benchmarks/forward.py). With the lock a request goes out before
the next is prepared, so the responses arrive spread over time.

The lock is not held while the process waits for the target: a large request is written without it, and a request that
cannot be written at once, because the target does not read, releases it.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any, Final

import httpcore

# A larger request goes out in several pieces, to limit the memory of the buffer.
_MAX_BUFFER_BYTES: Final = 64 << 10
# Signing and writing a request takes a millisecond. After this time the process is waiting for the target.
_MAX_SECONDS: Final = 1.0


class WriteLock:
    """Held by one connection while it prepares and writes a request; all connections share `lock`."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._end: asyncio.TimerHandle | None = None

    async def acquire(self) -> None:
        """Wait for the lock. It is released after one second at the latest."""
        await self._lock.acquire()
        self._end = asyncio.get_running_loop().call_later(_MAX_SECONDS, self.release)

    def release(self) -> None:
        """Release the lock if this connection still holds it."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
            self._lock.release()


class WriteLockBackend(httpcore.AsyncNetworkBackend):
    """Connects as `network` does, and releases the lock while it waits for the connection and for each response."""

    def __init__(self, network: httpcore.AsyncNetworkBackend, write_lock: WriteLock) -> None:
        self._network = network
        self._write_lock = write_lock
        self._stream: httpcore.AsyncNetworkStream | None = None

    def pop_stream(self) -> httpcore.AsyncNetworkStream | None:
        """Return the stream that was connected last, for the caller to close; None if it was released before.

        It is the stream below TLS, so closing it closes the connection in any state.
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
        """Connect without the lock. Raise what `network` raises."""
        self._write_lock.release()
        stream = await self._network.connect_tcp(
            host, port, timeout=timeout, local_address=local_address, socket_options=socket_options
        )
        self._stream = stream
        return _BufferedStream(stream, self._write_lock)


class _BufferedStream(httpcore.AsyncNetworkStream):
    """Buffers what is written until a response is read: head and body of a request are then one system call."""

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
            # As httpcore treats write errors: the target may have answered before it closed the connection.
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
