"""The store in Redis: one MULTI/EXEC for each batch, on one connection, in one round trip.

With `appendfsync always` Redis answers EXEC after the fsync: it writes and syncs its file before it sends replies
(redis.conf, APPEND ONLY MODE). Otherwise a WAITAOF follows, and with `replica` a WAIT, in the same round trip: on
another connection they would wait for that connection's writes. The gate's barrier says which of them is needed.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any, Final

import hiredis
import redis
import redis.asyncio

from ingest import log
from ingest.durability_gate import DurabilityGate
from ingest.group_commit import BatchEntry, Destination
from shared import batches
from shared.batches import Accepted, Command, Quarantined
from shared.connections import WEB_TIMEOUT_SECONDS
from shared.durability import Barrier
from shared.errors import StoreUnavailable

# A 200 must not depend on a replica that needs longer than this. Well within the time-out of a write, 5 s.
WAIT_MS: Final = 2000
# With everysec Redis syncs once a second, or later while the disk is busy, and a replica reports once a second how far
# its own file is synced. Still within the time-out of a write.
WAITAOF_MS: Final = 4000

# Making and packing the job of a body of 11 MiB takes 40 ms: other requests run between the two, and before it is sent.
_LARGE_BYTES: Final = 1 << 20

# Subclasses of redis-py's ConnectionError that a new connection does not cure.
_NOT_RETRIED: Final = (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.BusyLoadingError)


class RedisStore:
    """Writes batches to Redis while `gate` is open.

    `client` needs no time-out of its own: a write, connecting included, may take WEB_TIMEOUT_SECONDS.
    """

    def __init__(self, client: "redis.asyncio.Redis", gate: DurabilityGate) -> None:
        self._client = client
        self._gate = gate
        self._connection: Any = None

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        """Make `batch` durable: one job, or quarantined callbacks, or both. Raise StoreUnavailable.

        If the connection breaks, the batch is sent once more on a new one. It may then be stored twice; the workers
        recognise the second as a repetition, and the counters stay right, as they are part of the transaction. After a
        failover the new connection may lead to another server, so Redis is checked first. A time-out is not retried:
        the senders have waited long enough.
        """
        self._require_open_gate()
        was_fresh = self._connection is None
        try:
            await self._execute(self._commands(batch), self._gate.barrier)
        except redis.ConnectionError as exc:
            if was_fresh or isinstance(exc, _NOT_RETRIED):
                raise self._unavailable(exc, batch) from exc
            log.logger.warning("commit_retried", callbacks=len(batch), error=type(exc).__name__)
            await self._gate.check()
            self._require_open_gate()
            try:
                # As a new job: the same job written twice would be counted twice and run once.
                await self._execute(self._commands(batch), self._gate.barrier)
            except (redis.RedisError, OSError) as again:
                raise self._unavailable(again, batch) from again
        except (redis.RedisError, OSError) as exc:
            raise self._unavailable(exc, batch) from exc
        return "redis"

    async def close(self) -> None:
        """Close the connection."""
        await self._drop()
        await self._client.aclose()

    def _require_open_gate(self) -> None:
        reason = self._gate.blocked_reason
        if reason is not None:
            raise StoreUnavailable(reason)

    def _commands(self, batch: Sequence[BatchEntry]) -> list[Command]:
        accepted = [entry for entry in batch if isinstance(entry, Accepted)]
        quarantined = [entry for entry in batch if isinstance(entry, Quarantined)] if len(accepted) < len(batch) else []
        commands = batches.commit_commands(accepted, quarantined)
        return [("MULTI",), *commands, ("EXEC",)]

    async def _execute(self, transaction: Sequence[Command], barrier: Barrier) -> None:
        commands = [*transaction, *_wait_commands(barrier)]
        try:
            # One time-out for all of it: redis-py's own starts a task to send, and takes 8 µs for each reply.
            async with asyncio.timeout(WEB_TIMEOUT_SECONDS):
                if self._connection is None:
                    pool: Any = self._client.connection_pool
                    self._connection = await pool.get_connection()
                connection = self._connection
                packed: list[bytes] = []
                for command in commands:
                    packed.append(hiredis.pack_command(command))  # type: ignore[arg-type] # of any length
                    if len(packed[-1]) > _LARGE_BYTES:
                        await asyncio.sleep(0)
                await connection.send_packed_command(b"".join(packed))
                replies = [await connection.read_response(timeout=math.inf) for _ in commands]
        except BaseException:
            # Replies may still arrive, and would be taken for those of the next batch.
            await self._drop()
            raise
        for result in replies[len(transaction) - 1]:
            if isinstance(result, Exception):
                raise result
        for reply in replies[len(transaction) :]:
            _verify_wait(reply, barrier)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._client.connection_pool.release(connection)

    def _unavailable(self, exc: Exception, batch: Sequence[BatchEntry]) -> StoreUnavailable:
        # Only the error's type and its code (OOM, NOREPLICAS, …): a message may quote a command, and so a body.
        code = str(exc).partition(" ")[0]
        what = f"{type(exc).__name__} {code}" if code.isupper() else type(exc).__name__
        if isinstance(exc, (redis.ConnectionError, redis.TimeoutError, OSError)):
            # The next commits need not wait for a time-out each: the gate opens when Redis answers again.
            self._gate.report_unreachable(what)
        log.limited.warning("commit_failed", {"error": what}, callbacks=len(batch))
        return StoreUnavailable(what)


def _wait_commands(barrier: Barrier) -> list[Command]:
    """Return what follows EXEC: one command, or none."""
    if barrier.synced:
        return [("WAITAOF", 1, barrier.replicas, WAITAOF_MS)]
    return [("WAIT", barrier.replicas, WAIT_MS)] if barrier.replicas else []


def _verify_wait(reply: Any, barrier: Barrier) -> None:
    """Raise redis.ResponseError if `barrier` was not reached. The batch is then in Redis, but not durable."""
    synced, replicas = reply if barrier.synced else (1, reply)
    if synced < 1:
        raise redis.ResponseError("NOTSYNCED the server did not sync its file in time")
    if replicas < barrier.replicas:
        raise redis.ResponseError(f"NOREPLICAS {replicas} of {barrier.replicas} replicas have the batch")
