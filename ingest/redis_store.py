"""The store that is Redis: one MULTI/EXEC for a batch, on one connection, in one round trip.

EXEC's answer comes after the fsync, as Redis with `appendfsync always` writes and syncs its file before it sends
what it has to say (redis.conf, APPEND ONLY MODE). With `replica` a WAIT follows in the same round trip: on another
connection it would answer for that one's writes.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final, Protocol

import redis
import redis.asyncio

from ingest import log
from ingest.commit import Entry
from shared import batches
from shared.batches import Kept, Quarantined
from shared.connections import WEB_TIMEOUT_SECONDS
from shared.errors import NotKept

# A replica that needs longer than this is not one to rest a 200 on; well within the socket's time-out of 5 s.
WAIT_MS: Final = 2000

# ConnectionErrors that a fresh connection does not mend, though redis-py files them so.
_NOT_MENDED: Final = (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.BusyLoadingError)


class Gate(Protocol):
    """Knows whether Redis keeps what it acknowledges (see ingest/health.py)."""

    @property
    def refusal(self) -> str | None:
        """Why nothing may be committed now, or None."""

    def lost(self, why: str) -> None:
        """Take note that Redis did not answer."""


class RedisStore:
    """Writes batches to Redis, if `gate` says that Redis holds what is asked of it."""

    def __init__(self, client: "redis.asyncio.Redis", gate: Gate, *, replicas: int) -> None:
        self._client = client
        self._gate = gate
        self._replicas = replicas
        self._connection: Any = None
        self._seldom = log.Seldom()

    async def write(self, batch: Sequence[Entry]) -> None:
        """Make `batch` durable: one job, or quarantine entries, or both. Raises NotKept.

        A connection that breaks is replaced once and the batch sent again: it may then be stored twice, which the
        workers' dedupe absorbs, and the counters stay right as they are part of the transaction. A time-out is not
        repeated: the senders have waited long enough.
        """
        refusal = self._gate.refusal
        if refusal is not None:
            raise NotKept(refusal)
        commands = self._commands(batch)
        was_fresh = self._connection is None
        try:
            await self._execute(commands)
        except redis.ConnectionError as exc:
            if was_fresh or isinstance(exc, _NOT_MENDED):
                raise self._not_kept(exc, batch) from exc
            log.logger.warning("action=commit_repeated callbacks=%d error=%s", len(batch), type(exc).__name__)
            try:
                await self._execute(commands)
            except (redis.RedisError, OSError) as again:
                raise self._not_kept(again, batch) from again
        except (redis.RedisError, OSError) as exc:
            raise self._not_kept(exc, batch) from exc

    async def close(self) -> None:
        """Close the connection."""
        await self._drop()
        await self._client.aclose()

    def _commands(self, batch: Sequence[Entry]) -> list[tuple[Any, ...]]:
        # Only a notebook for the commands: nothing is sent through it.
        pipe = self._client.pipeline(transaction=True)
        batches.add(
            pipe,
            [entry for entry in batch if isinstance(entry, Kept)],
            [entry for entry in batch if isinstance(entry, Quarantined)],
        )
        commands: list[tuple[Any, ...]] = [("MULTI",), *(args for args, _ in pipe.command_stack), ("EXEC",)]
        if self._replicas:
            commands.append(("WAIT", self._replicas, WAIT_MS))
        return commands

    async def _execute(self, commands: Sequence[tuple[Any, ...]]) -> None:
        try:
            if self._connection is None:
                pool: Any = self._client.connection_pool
                self._connection = await pool.get_connection()
            connection = self._connection
            # One time-box for all of it: redis-py's own is one for each reply, at 8 µs each.
            async with asyncio.timeout(WEB_TIMEOUT_SECONDS):
                await connection.send_packed_command(connection.pack_commands(commands))
                replies = [await connection.read_response(timeout=math.inf) for _ in commands]
        except BaseException:
            # Answers may still be on their way, and would be taken for those of the next batch.
            await self._drop()
            raise
        results = replies[-2] if self._replicas else replies[-1]
        for result in results:
            if isinstance(result, Exception):
                raise result
        if self._replicas and replies[-1] < self._replicas:
            raise redis.ResponseError(f"NOREPLICAS {replies[-1]} of {self._replicas} replicas have it")

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._client.connection_pool.release(connection)

    def _not_kept(self, exc: Exception, batch: Sequence[Entry]) -> NotKept:
        # Only the error's type and its code (OOM, NOREPLICAS, …): a message may quote a command, and that is a body.
        code = str(exc).partition(" ")[0]
        what = f"{type(exc).__name__} {code}" if code.isupper() else type(exc).__name__
        if isinstance(exc, (redis.ConnectionError, redis.TimeoutError, OSError)):
            # Whoever comes next need not wait for a time-out of his own: the gate opens when Redis answers again.
            self._gate.lost(what)
        self._seldom.tell(f"action=commit_failed error={what!r}", f"callbacks={len(batch)}")
        return NotKept(what)
