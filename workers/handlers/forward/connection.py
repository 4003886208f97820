"""The lines to one target: each carries one request at a time, over one connection that is kept alive.

A request takes its line's connection, and leaves it there after a complete answer only. However else it ends (an error,
a time-out, a call that is broken off at any step), the connection is closed and the next request makes a new one: what
state httpcore left it in does not matter. httpcore's own pool is not used: a call that is broken off inside its locks
leaves a connection in it that no request gets any more.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Final

import httpcore

from workers.handlers.forward.write_lock import WriteLock, WriteLockBackend

# Servers close connections that were idle for 5 s and more; we do it first, so that no request meets a closing one.
KEEP_ALIVE_SECONDS: Final = 4.0


class PersistentConnection:
    """A way to the target that one request uses at a time; `turn` is that request's right to be written."""

    def __init__(
        self, origin: httpcore.Origin, *, tls: ssl.SSLContext, network: httpcore.AsyncNetworkBackend, lock: asyncio.Lock
    ) -> None:
        self.write_lock = WriteLock(lock)
        self._network = WriteLockBackend(network, self.write_lock)
        self._origin = origin
        self._tls = tls
        self._connection: httpcore.AsyncConnectionInterface | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator["ConnectionUse"]:
        """Yield the connection for one request, a new one if need be; it is kept if that use of it is complete."""
        connection, self._connection = self._connection, None
        if connection is None or connection.is_closed() or connection.has_expired():
            self._close()
            connection = httpcore.AsyncHTTPConnection(
                self._origin,
                ssl_context=self._tls,
                keepalive_expiry=KEEP_ALIVE_SECONDS,
                network_backend=self._network,
            )
        use = ConnectionUse(connection)
        try:
            yield use
        finally:
            self.write_lock.release()
            if use.is_complete:
                self._connection = connection
            else:
                self._close()

    async def aclose(self) -> None:
        """Close what is open, and wait until all is closed."""
        self._connection = None
        self._close()
        await asyncio.gather(*self._closing)

    def _close(self) -> None:
        # A task of its own: a call that is broken off may be broken off again while it waits for the end of this.
        if (stream := self._network.pop_stream()) is not None:
            task = asyncio.create_task(_close_stream(stream))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class ConnectionUse:
    """One request's use of a connection."""

    def __init__(self, connection: httpcore.AsyncConnectionInterface) -> None:
        self.connection = connection
        self.is_complete = False

    def mark_complete(self) -> None:
        """Note that the answer was read to its end, so that another request may follow on the same connection."""
        self.is_complete = True


async def _close_stream(stream: httpcore.AsyncNetworkStream) -> None:
    with contextlib.suppress(OSError):
        await stream.aclose()
