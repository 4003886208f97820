"""Connections that lead to the primary, or break: a server that was demoted keeps nobody who connected to it before.

After a polite failover (FAILOVER, or an operator's REPLICAOF) the old primary closes no connection, and an address that
leads elsewhere by now is resolved by new connections only. So a connection that meets a replica, a server that is still
loading, or one that lost its own primary is dropped and raises redis.ConnectionError, as redis-py's own connections do
where Sentinels watch. Whoever repeats a command then does it on a new connection, to where the address leads now.

Who only reads is answered by a replica as well, so it asks for the server's role now and then: see `check_role`.
"""

import re
from typing import Any, Final

import redis
import redis.asyncio
from redis.asyncio import connection as asynchronous
from redis.asyncio import sentinel as asynchronous_sentinel
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.sentinel import SentinelConnectionPool, SentinelManagedConnection

# UNBLOCKED: what a demoted server says to who waited in BLMOVE. Before Redis 7 a script's error bears the code of what
# failed inside it in the middle of its sentence.
_LEADS_ASTRAY: Final = re.compile(r"(?:^|-)(READONLY|MASTERDOWN|UNBLOCKED)\b")
# What uvloop raises where a transport is dead and asyncio has not heard of it, and what is left of a stream that was
# closed while somebody wrote to it.
_DEAD_TRANSPORT: Final = (RuntimeError, AttributeError)


class Demoted(redis.ConnectionError):
    """The server is a replica now, or has lost its primary; the connection was dropped."""


def check_role(client: redis.Redis) -> None:
    """Raise Demoted, and drop the connections of `client`, if its server is a replica."""
    info: Any = client.info("replication")
    if info.get("role") == "slave":
        client.connection_pool.disconnect()
        raise Demoted(Demoted.__doc__)


async def check_role_async(client: "redis.asyncio.Redis") -> None:
    """Do as `check_role`."""
    info: Any = await client.info("replication")
    if info.get("role") == "slave":
        await client.connection_pool.disconnect()
        raise Demoted(Demoted.__doc__)


class _ToPrimary:
    """A mixin for redis-py's connections."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read an answer. Raises Demoted, and what redis-py raises."""
        connection: Any = super()
        try:
            return connection.read_response(*args, **options)
        except redis.BusyLoadingError:  # a ConnectionError already, which says what it is
            connection.disconnect()
            raise
        except redis.RedisError as exc:
            if not _leads_astray(exc):
                raise
            connection.disconnect()
            raise Demoted(Demoted.__doc__) from exc


class _ToPrimaryAsync:
    """The same for those of asyncio, on whose dead transports uvloop raises what is no RedisError."""

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read an answer. Raises Demoted, and what redis-py raises."""
        connection: Any = super()
        try:
            return await connection.read_response(*args, **options)
        except redis.BusyLoadingError:  # a ConnectionError already, which says what it is
            await connection.disconnect(nowait=True)
            raise
        except redis.RedisError as exc:
            if not _leads_astray(exc):
                raise
            await connection.disconnect(nowait=True)
            raise Demoted(Demoted.__doc__) from exc
        except _DEAD_TRANSPORT as exc:
            await connection.disconnect(nowait=True)
            raise redis.ConnectionError("the connection is dead") from exc

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Send a command. Raises redis.ConnectionError where the transport is dead, whatever it says to that."""
        connection: Any = super()
        try:
            await connection.send_packed_command(*args, **options)
        except _DEAD_TRANSPORT as exc:
            await connection.disconnect(nowait=True)
            raise redis.ConnectionError("the connection is dead") from exc


class PrimaryConnection(_ToPrimary, Connection):
    """A TCP connection."""


class PrimarySSLConnection(_ToPrimary, SSLConnection):
    """A TCP connection with TLS."""


class PrimaryUnixConnection(_ToPrimary, UnixDomainSocketConnection):
    """A connection to a Unix socket."""


class PrimarySentinelConnection(_ToPrimary, SentinelManagedConnection):
    """A TCP connection to the primary that Sentinels name."""


class PrimarySentinelSSLConnection(_ToPrimary, SentinelManagedConnection, SSLConnection):
    """The same with TLS."""


class AsyncPrimaryConnection(_ToPrimaryAsync, asynchronous.Connection):
    """A TCP connection."""


class AsyncPrimarySSLConnection(_ToPrimaryAsync, asynchronous.SSLConnection):
    """A TCP connection with TLS."""


class AsyncPrimaryUnixConnection(_ToPrimaryAsync, asynchronous.UnixDomainSocketConnection):
    """A connection to a Unix socket."""


class AsyncPrimarySentinelConnection(_ToPrimaryAsync, asynchronous_sentinel.SentinelManagedConnection):
    """A TCP connection to the primary that Sentinels name."""


class AsyncPrimarySentinelSSLConnection(
    _ToPrimaryAsync, asynchronous_sentinel.SentinelManagedConnection, asynchronous.SSLConnection
):
    """The same with TLS."""


class PrimarySentinelPool(SentinelConnectionPool):
    """Connections to the primary that Sentinels name, which end with those to the Sentinels."""

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


def _leads_astray(exc: redis.RedisError) -> bool:
    is_code = isinstance(exc, (redis.ReadOnlyError, redis.exceptions.MasterDownError))
    return is_code or _LEADS_ASTRAY.search(str(exc)) is not None
