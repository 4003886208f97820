"""The drainer: moves what waits in the spool to Redis, oldest first, whenever the durability gate is open.

A row leaves the spool only after Redis has it durably. After a crash in between it is sent twice, and the workers
recognise the second as a repetition. New callbacks go straight to Redis meanwhile.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from ingest import log
from ingest.durability_gate import CommitGate
from ingest.group_commit import Store
from ingest.spool.folder import DrainBatch, SpoolFolder
from ingest.spool.report import SpoolReport
from ingest.spool.spool import SpoolRow
from ingest.spool.thread import SpoolThread
from shared.errors import StoreUnavailable

# How often the folder is searched for spools of dead processes, and a disk that failed is tried again.
CHECK_SECONDS: Final = 3.0
# How often it is checked whether something waits and the gate is open.
TICK_SECONDS: Final = 0.2
# For how long nothing is drained after Redis has refused a batch.
PAUSE_SECONDS: Final = 1.0
# If this many rows in a row are refused one by one, the rows are not the cause.
_MAX_REFUSED_ROWS: Final = 3


class SpoolDrainer:
    """Drains `folder` into `store` while `run` runs. Everything that blocks is done in `thread`."""

    def __init__(
        self, folder: SpoolFolder, thread: SpoolThread, store: Store, gate: CommitGate, report: SpoolReport
    ) -> None:
        self._folder = folder
        self._thread = thread
        self._store = store
        self._gate = gate
        self._report = report

    async def run(self) -> None:
        """Drain whenever something waits, until cancelled."""
        next_check_seconds = 0.0
        while True:
            is_moved = False
            try:
                if time.monotonic() >= next_check_seconds:
                    next_check_seconds = time.monotonic() + CHECK_SECONDS
                    await self._check_folder()
                if self._folder.backlog.drainable and self._may_drain():
                    is_moved = await self._drain_batch()
            except StoreUnavailable as exc:
                self._report.failed(exc)
            except Exception as exc:  # noqa: BLE001 # the declared boundary around a batch's commit
                log.unexpected_error("drain", exc)
                await asyncio.sleep(CHECK_SECONDS)
            if not is_moved:
                await asyncio.sleep(TICK_SECONDS)

    def _may_drain(self) -> bool:
        return self._gate.blocked_reason is None and not self._report.redis_refused_within(PAUSE_SECONDS)

    async def _check_folder(self) -> None:
        try:
            await self._thread.run(self._folder.take_over_orphans)
            self._report.leftovers_found()
            if self._report.state == "failing":
                await self._thread.run(self._folder.probe)
                self._report.disk_recovered()
        except StoreUnavailable as exc:
            # What a disk holds can be drained, though nothing more can be written to it.
            self._report.failed(exc)

    async def _drain_batch(self) -> bool:
        """Drain one batch. Return whether any of it is in Redis now. Raise StoreUnavailable if the disk fails."""
        batch = await self._thread.run(self._folder.next_batch)
        if batch is None:
            self._report.drained(0)  # what remained was damaged, or sealed with a missing key
            return False
        if len(batch.rows) == 1 or not await self._write(batch.rows):
            return await self._drain_one_by_one(batch)
        await self._remove(batch, batch.rows)
        return True

    async def _drain_one_by_one(self, batch: DrainBatch) -> bool:
        """Drain the rows of a batch that was not taken as a whole, so that one row does not hold back the others."""
        moved = refused = 0
        failed: list[SpoolRow] = []
        for row in batch.rows:
            try:
                is_written = await self._write([row])
            except _RowFailed:
                failed.append(row)
                is_written = False
            if is_written:
                moved += 1
                await self._remove(batch, [row])
            else:
                refused += 1
            if self._gate.blocked_reason is not None or (refused == _MAX_REFUSED_ROWS and not moved):
                break
        if not moved:
            # The cause may be anything, so the rows stay in their order.
            await self._thread.run(self._folder.rewind, batch)
            return False
        for row in failed:
            await self._thread.run(self._folder.move_to_file, batch, row, "failed")
            self._report.drained(0)
        return True

    async def _write(self, rows: Sequence[SpoolRow]) -> bool:
        """Return whether Redis has taken `rows`. Raise _RowFailed if a single row causes an unexpected error."""
        try:
            await self._store.write([entry for row in rows for entry in row.entries])
        except StoreUnavailable as exc:
            self._report.redis_refused(str(exc))
            return False
        except Exception as exc:  # the declared boundary around a batch's commit
            log.unexpected_error("drain", exc)
            self._report.redis_refused("unexpected error")
            if len(rows) == 1:
                raise _RowFailed from exc
            return False
        self._report.redis_accepted()
        return True

    async def _remove(self, batch: DrainBatch, rows: Sequence[SpoolRow]) -> None:
        await self._thread.run(self._folder.remove, batch, rows)
        self._report.drained(sum(len(row.entries) for row in rows))


class _RowFailed(Exception):
    """Our own code fails on this row."""
