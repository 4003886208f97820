"""The store that never has to refuse: Redis, and the spool on the local disk for what Redis does not take.

A batch that Redis has not taken, or of which nobody knows, is on the local disk before its senders hear 200; it may
then be stored twice, which the workers' dedupe absorbs. Only if the disk does not take it either, it is refused.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ingest import log
from ingest.group_commit import BatchEntry, Store
from ingest.shutdown import stop
from ingest.spool.drainer import SpoolDrainer
from ingest.spool.folder import SpoolFolder
from ingest.spool.report import Gate, SpoolReport
from ingest.spool.thread import SpoolThread
from shared.background import Background
from shared.errors import StoreUnavailable

_FAULT: Final = "a fault while it was stored"


class FallbackStore:
    """Writes batches to `redis`, and to `folder` (None: no spool) what `redis` does not take.

    `drain_to` leads to the same Redis over a connection of its own: on one connection a live commit would have to wait
    for the answer to a drained one. So they take turns in Redis, batch by batch, and a live one waits for one at most.
    """

    def __init__(
        self,
        redis: Store,
        drain_to: Store,
        gate: Gate,
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
        """Open the spool and begin to drain what is in it. A disk that fails is told, and tried again later."""
        if self._folder is None:
            return
        try:
            await self._thread.run(self._folder.open)
        except StoreUnavailable as exc:
            self.report.failed(exc)
        self.report.leftovers_found()
        drain = SpoolDrainer(self._folder, self._thread, self._drain_to, self._gate, self.report)
        self._draining = self._background.start_task("drain", drain.run)

    async def write(self, batch: Sequence[BatchEntry]) -> None:
        """Make `batch` durable in Redis or on the local disk. Raises StoreUnavailable."""
        try:
            await self._redis.write(batch)
        except StoreUnavailable as exc:
            self.report.redis_refused(str(exc))
            await self._spool(batch, exc)
        except Exception as exc:  # noqa: BLE001 # the declared boundary around a batch's commit
            log.unexpected_error("redis", exc)
            self.report.redis_refused(_FAULT)
            await self._spool(batch, StoreUnavailable(_FAULT))
        else:
            self.report.redis_accepted()

    async def close(self) -> None:
        """Stop draining and let go of the spool; what is in it stays for the next start. Close both stores."""
        if self._draining is not None:
            await stop(self._draining)
        if self._folder is not None:
            left = self._folder.backlog.callbacks
            if left:
                log.logger.warning("action=spool_not_drained callbacks=%d", left)
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
