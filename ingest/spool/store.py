"""The store with a fallback: Redis, and the spool on the local disk for what Redis does not take.

A batch that Redis has not taken, or may not have taken, is on the local disk before its senders get 200. It may then be
stored twice; the workers recognise the second as a repetition. It is refused only if the disk does not take it either.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from ingest import log
from ingest.durability_gate import CommitGate
from ingest.group_commit import UNEXPECTED, BatchEntry, Destination, Store
from ingest.shutdown import cancel
from ingest.spool.drainer import SpoolDrainer
from ingest.spool.folder import SpoolFolder
from ingest.spool.report import SpoolReport
from ingest.spool.thread import SpoolThread
from shared.background import Background
from shared.errors import StoreUnavailable


class FallbackStore:
    """Writes batches to `redis`, and to `folder` (None: no spool) what `redis` does not take.

    `drain_to` is the same Redis over a connection of its own: on one connection a live commit would have to wait for
    the reply to a drained one. In Redis the two take turns, so a live batch waits for one drained batch at most.
    """

    def __init__(
        self,
        redis: Store,
        drain_to: Store,
        gate: CommitGate,
        folder: SpoolFolder | None,
        *,
        background: Background | None = None,
    ) -> None:
        self.report = SpoolReport(gate, folder)
        self._redis = redis
        self._drain_to = drain_to
        self._gate = gate
        self._folder = folder
        self._thread = SpoolThread()
        self._background = background or Background()
        self._draining: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the spool and start draining it. A disk that fails is reported, and tried again later."""
        if self._folder is None:
            return
        try:
            await self._thread.run(self._folder.open)
        except StoreUnavailable as exc:
            self.report.failed(exc)
        self.report.leftovers_found()
        drainer = SpoolDrainer(self._folder, self._thread, self._drain_to, self._gate, self.report)
        self._draining = self._background.start_task("drain", drainer.run)

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        """Make `batch` durable in Redis or on the local disk, and return where. Raise StoreUnavailable."""
        try:
            await self._redis.write(batch)
        except StoreUnavailable as exc:
            self.report.redis_refused(str(exc))
            await self._spool(batch, exc)
        except Exception as exc:  # noqa: BLE001 # the declared boundary around a batch's commit
            log.unexpected_error("redis", exc)
            self.report.redis_refused(UNEXPECTED)
            await self._spool(batch, StoreUnavailable(UNEXPECTED))
        else:
            self.report.redis_accepted()
            return "redis"
        return "spool"

    async def close(self) -> None:
        """Stop draining, and close the spool and both stores. What is in the spool stays for the next start."""
        if self._draining is not None:
            await cancel(self._draining)
        if self._folder is not None:
            waiting = self._folder.backlog.callbacks
            if waiting:
                log.logger.warning("spool_not_drained", callbacks=waiting)
            with suppress(StoreUnavailable):
                await self._thread.run(self._folder.close)
        self._thread.close()
        await self._redis.close()
        await self._drain_to.close()

    async def _spool(self, batch: Sequence[BatchEntry], why: StoreUnavailable) -> None:
        if self._folder is None:
            self.report.refused(len(batch), why)
            raise why
        try:
            await self._thread.run(self._folder.append, batch)
        except StoreUnavailable as exc:
            self.report.refused(len(batch), exc)
            raise
        self.report.spooled()
