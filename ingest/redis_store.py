"""The store that is Redis: one MULTI/EXEC for a batch, on one connection, in one round trip.

EXEC's answer comes after the fsync, as Redis with `appendfsync always` writes and syncs its file before it sends
what it has to say (redis.conf, APPEND ONLY MODE). Where that is not so a WAITAOF follows, and with `replica` a WAIT, in
the same round trip: on another connection they would answer for that one's writes. Which, the gate's barrier says.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final, Protocol

import hiredis
import redis
import redis.asyncio

from ingest import log
from ingest.group_commit import BatchEntry
from shared import batches
from shared.batches import Accepted, Command, Quarantined
from shared.connections import WEB_TIMEOUT_SECONDS
from shared.durability import Barrier
from shared.errors import StoreUnavailable

# A replica that needs longer than this is not one to rest a 200 on; well within the socket's time-out of 5 s.
WAIT_MS: Final = 2000
# With everysec Redis syncs once a second, or later while the disk is busy, and a replica says once a second how far its
# own file is; still within the socket's time-out.
WAITAOF_MS: Final = 4000

# ConnectionErrors that a fresh connection does not mend, though redis-py files them so.
_NOT_MENDED: Final = (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.BusyLoadingError)


class Gate(Protocol):
    """Knows whether Redis keeps what it acknowledges (see ingest/health.py)."""

    @property
    def blocked_reason(self) -> str | None:
        """Why nothing may be committed now, or None."""

    @property
    def barrier(self) -> Barrier:
        """What a commit has to wait for."""

    def report_unreachable(self, why: str) -> None:
        """Take note that Redis did not answer."""

    async def check(self) -> None:
        """Look at Redis now."""


class RedisStore:
    """Writes batches to Redis, if `gate` says that Redis holds what is asked of it.

    `client` needs no time-out of its own: a write is given up after WEB_TIMEOUT_SECONDS, connecting included.
    """

    def __init__(self, client: "redis.asyncio.Redis", gate: Gate) -> None:
        self._client = client
        self._gate = gate
        self._connection: Any = None
        self._limited_log = log.RateLimitedLog()

    async def write(self, batch: Sequence[BatchEntry]) -> None:
        """Make `batch` durable: one job, or quarantine entries, or both. Raises StoreUnavailable.

        A connection that breaks is replaced once and the batch sent again: it may then be stored twice, which the
        workers' dedupe absorbs, and the counters stay right as they are part of the transaction. The new one may lead
        to another server, after a failover, so Redis is looked at first. A time-out is not repeated: the senders have
        waited long enough.
        """
        self._check_gate()
        was_fresh = self._connection is None
        try:
            await self._execute(self._commands(batch), self._gate.barrier)
        except redis.ConnectionError as exc:
            if was_fresh or isinstance(exc, _NOT_MENDED):
                raise self._not_kept(exc, batch) from exc
            log.logger.warning("action=commit_retried callbacks=%d error=%s", len(batch), type(exc).__name__)
            await self._gate.check()
            self._check_gate()
            try:
                # As a new job: twice in one place it would be counted twice, and worked on once.
                await self._execute(self._commands(batch), self._gate.barrier)
            except (redis.RedisError, OSError) as again:
                raise self._not_kept(again, batch) from again
        except (redis.RedisError, OSError) as exc:
            raise self._not_kept(exc, batch) from exc

    async def close(self) -> None:
        """Close the connection."""
        await self._drop()
        await self._client.aclose()

    def _check_gate(self) -> None:
        refusal = self._gate.blocked_reason
        if refusal is not None:
            raise StoreUnavailable(refusal)

    def _commands(self, batch: Sequence[BatchEntry]) -> list[Command]:
        commands = batches.commit_commands(
            [entry for entry in batch if isinstance(entry, Accepted)],
            [entry for entry in batch if isinstance(entry, Quarantined)],
        )
        return [("MULTI",), *commands, ("EXEC",)]

    async def _execute(self, transaction: Sequence[Command], barrier: Barrier) -> None:
        waits = _waits(barrier)
        commands = [*transaction, *waits]
        try:
            # One time-box for all of it: redis-py's own makes a task to send, and takes 8 µs for each reply.
            async with asyncio.timeout(WEB_TIMEOUT_SECONDS):
                if self._connection is None:
                    pool: Any = self._client.connection_pool
                    self._connection = await pool.get_connection()
                connection = self._connection
                packed = [hiredis.pack_command(command) for command in commands]  # type: ignore[arg-type] # of any length
                await connection.send_packed_command(b"".join(packed))
                replies = [await connection.read_response(timeout=math.inf) for _ in commands]
        except BaseException:
            # Answers may still be on their way, and would be taken for those of the next batch.
            await self._drop()
            raise
        for result in replies[len(transaction) - 1]:
            if isinstance(result, Exception):
                raise result
        for reply in replies[len(transaction) :]:
            _check(reply, barrier)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._client.connection_pool.release(connection)

    def _not_kept(self, exc: Exception, batch: Sequence[BatchEntry]) -> StoreUnavailable:
        # Only the error's type and its code (OOM, NOREPLICAS, …): a message may quote a command, and that is a body.
        code = str(exc).partition(" ")[0]
        what = f"{type(exc).__name__} {code}" if code.isupper() else type(exc).__name__
        if isinstance(exc, (redis.ConnectionError, redis.TimeoutError, OSError)):
            # Whoever comes next need not wait for a time-out of his own: the gate opens when Redis answers again.
            self._gate.report_unreachable(what)
        self._limited_log.warning(f"action=commit_failed error={what!r}", f"callbacks={len(batch)}")
        return StoreUnavailable(what)


def _waits(barrier: Barrier) -> list[Command]:
    """Give what follows EXEC: one command, or none."""
    if barrier.synced:
        return [("WAITAOF", 1, barrier.replicas, WAITAOF_MS)]
    return [("WAIT", barrier.replicas, WAIT_MS)] if barrier.replicas else []


def _check(reply: Any, barrier: Barrier) -> None:
    """Raise redis.ResponseError if less came true than `barrier` asks; the batch is then in Redis, but not kept."""
    synced, replicas = reply if barrier.synced else (1, reply)
    if synced < 1:
        raise redis.ResponseError("NOTSYNCED the server has not synced its file in time")
    if replicas < barrier.replicas:
        raise redis.ResponseError(f"NOREPLICAS {replicas} of {barrier.replicas} replicas have it")
