"""Draining: what waits in the spool goes to Redis, oldest first, as long as Redis holds what is asked of it.

A row leaves the spool only after Redis has it durably. A crash in between sends it twice, which the workers' dedupe
absorbs. New callbacks go straight to Redis meanwhile.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from ingest import log
from ingest.group_commit import Store
from ingest.spool.folder import DrainBatch, SpoolFolder
from ingest.spool.report import Gate, SpoolReport
from ingest.spool.spool import SpoolRow
from ingest.spool.thread import SpoolThread
from shared.errors import StoreUnavailable

# What a dead process has left is found this soon; and a disk that failed is tried again.
CHECK_SECONDS: Final = 3.0
# How soon it is noticed that something waits and may go.
TICK_SECONDS: Final = 0.2
# After Redis has refused a batch: so long is nothing drained.
PAUSE_SECONDS: Final = 1.0
# When so many rows were refused one by one, it is not the rows.
_ENOUGH: Final = 3


class SpoolDrainer:
    """Drains `folder` into `store` while `run` runs; everything that blocks is done in `thread`."""

    def __init__(self, folder: SpoolFolder, thread: SpoolThread, store: Store, gate: Gate, report: SpoolReport) -> None:
        self._folder = folder
        self._thread = thread
        self._store = store
        self._gate = gate
        self._report = report

    async def run(self) -> None:
        """Drain whenever there is something to drain, until cancelled."""
        next_look_seconds = 0.0
        while True:
            moved = False
            try:
                if time.monotonic() >= next_look_seconds:
                    next_look_seconds = time.monotonic() + CHECK_SECONDS
                    await self._look()
                if self._folder.backlog.callbacks and self._may():
                    moved = await self._step()
            except StoreUnavailable as exc:
                self._report.failed(exc)
            except Exception as exc:  # noqa: BLE001 # the declared boundary around a batch's commit
                log.unexpected_error("drain", exc)
                await asyncio.sleep(CHECK_SECONDS)
            if not moved:
                await asyncio.sleep(TICK_SECONDS)

    def _may(self) -> bool:
        return self._gate.blocked_reason is None and not self._report.redis_refused_within(PAUSE_SECONDS)

    async def _look(self) -> None:
        await self._thread.run(self._folder.take_over_orphans)
        self._report.leftovers_found()
        if self._report.state == "failing":
            await self._thread.run(self._folder.probe)
            self._report.disk_recovered()

    async def _step(self) -> bool:
        """Drain one load; whether any of it is in Redis now. Raises StoreUnavailable if the disk fails."""
        load = await self._thread.run(self._folder.next_batch)
        if load is None:
            self._report.drained(0)  # what was left was damaged
            return False
        if len(load.rows) == 1 or not await self._write(load.rows):
            return await self._one_by_one(load)
        await self._remove(load, load.rows)
        return True

    async def _one_by_one(self, load: DrainBatch) -> bool:
        """Drain the rows of a load that was not taken as a whole: one of them must not hold back the others."""
        moved = refused = 0
        faulty: list[SpoolRow] = []
        for row in load.rows:
            try:
                taken = await self._write([row])
            except _Faulty:
                faulty.append(row)
                taken = False
            if taken:
                moved += 1
                await self._remove(load, [row])
            else:
                refused += 1
            if self._gate.blocked_reason is not None or (refused == _ENOUGH and not moved):
                break
        if not moved:
            # It may be anything, and they stay in their order.
            await self._thread.run(self._folder.rewind, load)
            return False
        for row in faulty:
            await self._thread.run(self._folder.move_to_file, load, row, "faulty")
            self._report.drained(0)
        return True

    async def _write(self, rows: Sequence[SpoolRow]) -> bool:
        """Whether Redis has taken `rows`. Raises _Faulty for a single row with which something else is wrong."""
        try:
            await self._store.write([entry for row in rows for entry in row.entries])
        except StoreUnavailable as exc:
            self._report.redis_refused(str(exc))
            return False
        except Exception as exc:  # the declared boundary around a batch's commit
            log.unexpected_error("drain", exc)
            self._report.redis_refused("a fault of ours")
            if len(rows) == 1:
                raise _Faulty from exc
            return False
        self._report.redis_accepted()
        return True

    async def _remove(self, load: DrainBatch, rows: Sequence[SpoolRow]) -> None:
        await self._thread.run(self._folder.remove, load, rows)
        self._report.drained(sum(len(row.entries) for row in rows))


class _Faulty(Exception):
    """The row is refused by our own code."""
