"""Connections to the primary, which break when the server is no longer the primary.

After a planned failover (FAILOVER, or an operator's REPLICAOF) the old primary closes no connection, and only a new
connection resolves the URL's host again. So a connection is dropped, and raises redis.ConnectionError, when it meets a
replica, a server that is still loading, or one that has lost its own primary. redis-py does the same with Sentinels. A
command that is repeated then uses a new connection, to the current primary.

A replica also answers commands that only read. A client that only reads must check the server's role: `check_role`.
"""

import re
from typing import Any, Final

import redis
import redis.asyncio
from redis.asyncio import connection as asynchronous
from redis.asyncio import sentinel as asynchronous_sentinel
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.sentinel import SentinelConnectionPool, SentinelManagedConnection

# UNBLOCKED: what a demoted server replies to clients that wait in BLMOVE. Before Redis 7 the error of a script has the
# code of the failed command in the middle of its sentence.
_DEMOTION_CODES: Final = re.compile(r"(?:^|-)(READONLY|MASTERDOWN|UNBLOCKED)\b")
# What uvloop raises if a transport is dead and asyncio does not know it yet, and what a stream raises that was closed
# during a write.
_DEAD_TRANSPORT: Final = (RuntimeError, AttributeError)


class Demoted(redis.ConnectionError):
    """The server is a replica now, or has lost its primary. The connection was dropped."""


def check_role(client: redis.Redis) -> str:
    """Return the replication id of the server, which another primary does not have; "" if it is not known.

    Raise Demoted, and drop the connections of `client`, if the server is a replica.
    """
    info: Any = client.info("replication")
    if info.get("role") == "slave":
        client.connection_pool.disconnect()
        raise Demoted(Demoted.__doc__)
    return str(info.get("master_replid", ""))


async def check_role_async(client: "redis.asyncio.Redis") -> None:
    """Raise Demoted as `check_role`, for asyncio."""
    info: Any = await client.info("replication")
    if info.get("role") == "slave":
        await client.connection_pool.disconnect()
        raise Demoted(Demoted.__doc__)


class _PrimaryOnly:
    """A mixin for redis-py's blocking connections."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Return a reply. Raise Demoted, and what redis-py raises."""
        connection: Any = super()
        try:
            return connection.read_response(*args, **options)
        except redis.BusyLoadingError:  # it is a ConnectionError with a clear message already
            connection.disconnect()
            raise
        except redis.RedisError as exc:
            if not _is_demotion(exc):
                raise
            connection.disconnect()
            raise Demoted(Demoted.__doc__) from exc


class _PrimaryOnlyAsync:
    """The same for asyncio. On a dead transport uvloop raises errors that are not a RedisError."""

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Return a reply. Raise Demoted, and what redis-py raises."""
        connection: Any = super()
        try:
            return await connection.read_response(*args, **options)
        except redis.BusyLoadingError:  # it is a ConnectionError with a clear message already
            await connection.disconnect(nowait=True)
            raise
        except redis.RedisError as exc:
            if not _is_demotion(exc):
                raise
            await connection.disconnect(nowait=True)
            raise Demoted(Demoted.__doc__) from exc
        except _DEAD_TRANSPORT as exc:
            await connection.disconnect(nowait=True)
            raise redis.ConnectionError("the connection is dead") from exc

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Send a command. Raise redis.ConnectionError if the transport is dead, whatever the transport raises."""
        connection: Any = super()
        try:
            await connection.send_packed_command(*args, **options)
        except _DEAD_TRANSPORT as exc:
            await connection.disconnect(nowait=True)
            raise redis.ConnectionError("the connection is dead") from exc


class PrimaryConnection(_PrimaryOnly, Connection):
    """A TCP connection."""


class PrimarySSLConnection(_PrimaryOnly, SSLConnection):
    """A TCP connection with TLS."""


class PrimaryUnixConnection(_PrimaryOnly, UnixDomainSocketConnection):
    """A connection to a Unix socket."""


class PrimarySentinelConnection(_PrimaryOnly, SentinelManagedConnection):
    """A TCP connection to the primary that Sentinels name."""


class PrimarySentinelSSLConnection(_PrimaryOnly, SentinelManagedConnection, SSLConnection):
    """The same with TLS."""


class AsyncPrimaryConnection(_PrimaryOnlyAsync, asynchronous.Connection):
    """A TCP connection."""


class AsyncPrimarySSLConnection(_PrimaryOnlyAsync, asynchronous.SSLConnection):
    """A TCP connection with TLS."""


class AsyncPrimaryUnixConnection(_PrimaryOnlyAsync, asynchronous.UnixDomainSocketConnection):
    """A connection to a Unix socket."""


class AsyncPrimarySentinelConnection(_PrimaryOnlyAsync, asynchronous_sentinel.SentinelManagedConnection):
    """A TCP connection to the primary that Sentinels name."""


class AsyncPrimarySentinelSSLConnection(
    _PrimaryOnlyAsync, asynchronous_sentinel.SentinelManagedConnection, asynchronous.SSLConnection
):
    """The same with TLS."""


class PrimarySentinelPool(SentinelConnectionPool):
    """Connections to the primary that Sentinels name. They are closed together with those to the Sentinels."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Disconnect all; they may be used again."""
        super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels:
            sentinel.connection_pool.disconnect(inuse_connections)


class AsyncPrimarySentinelPool(asynchronous_sentinel.SentinelConnectionPool):
    """The same for asyncio."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Disconnect all; they may be used again."""
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.connection_pool.disconnect(inuse_connections)


def _is_demotion(exc: redis.RedisError) -> bool:
    is_code = isinstance(exc, (redis.ReadOnlyError, redis.exceptions.MasterDownError))
    return is_code or _DEMOTION_CODES.search(str(exc)) is not None
