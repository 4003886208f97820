"""A kept-alive HTTP connection to a target, used by one request at a time.

A connection is kept only after a complete response. After an error, a time-out or a cancellation it is closed, whatever
state httpcore left it in, and the next request opens a new one. httpcore's own pool is not used: a call that is
cancelled inside the pool's locks leaves a connection behind that no request gets again.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Final

import httpcore

from workers.handlers.forward.write_lock import WriteLock, WriteLockBackend

# Servers close connections that were idle for 5 s. We close them earlier, so that no request uses a closing one.
KEEP_ALIVE_SECONDS: Final = 4.0


class PersistentConnection:
    """A connection for one request at a time, reopened when needed; `turn` is that request's right to be written."""

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
        """Yield the connection for one request. Open it if needed; keep it if the use is marked complete."""
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
        """Close the connection and wait until it is closed."""
        self._connection = None
        self._close()
        await asyncio.gather(*self._closing)

    def _close(self) -> None:
        # In a task of its own, because a cancelled call may be cancelled again while it waits for the close.
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
        """Say that the response was read to its end, so that the next request may use the connection."""
        self.is_complete = True


async def _close_stream(stream: httpcore.AsyncNetworkStream) -> None:
    with contextlib.suppress(OSError):
        await stream.aclose()
