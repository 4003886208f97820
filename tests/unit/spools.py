"""Spools as processes open them and leave them when they die, and a fake Redis that tests control."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingest.group_commit import BatchEntry, Destination
from ingest.spool.folder import DrainBatch, SpoolFolder
from ingest.spool.store import FallbackStore
from shared.batches import Accepted
from shared.errors import StoreUnavailable


def callback(body: str, *, received_ms: int = 1) -> Accepted:
    return Accepted("status", "gateway", received_ms, 1, body)


def bodies(entries: Sequence[BatchEntry]) -> list[str]:
    return [entry.body if isinstance(entry, Accepted) else entry.body.decode() for entry in entries]


def died(folder: SpoolFolder) -> None:
    """Release the files as a killed process does: the locks end, and nothing is cleaned up."""
    for spool in folder._held():
        spool.file.close()
    folder._own, folder._others = None, []


def drained(folder: SpoolFolder) -> list[str]:
    """Remove everything, and return it in its order."""
    found: list[str] = []
    while (load := folder.next_batch()) is not None:
        found += [body for row in load.rows for body in bodies(row.entries)]
        folder.remove(load, load.rows)
    return found


def next_load(folder: SpoolFolder) -> DrainBatch:
    """Return what is to be drained next. There must be something."""
    load = folder.next_batch()
    assert load is not None
    return load


def damage(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(sql)
    db.close()


class Redis:
    """A store and a gate that tests control."""

    def __init__(self) -> None:
        self.blocked_reason: str | None = None
        self.refuses = ""
        self.poison = ""
        self.fails_on = ""
        self.batches: list[list[str]] = []
        self.asked = 0

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        if self.blocked_reason is not None:
            raise StoreUnavailable(self.blocked_reason)
        self.asked += 1
        if self.refuses:
            raise StoreUnavailable(self.refuses)
        if self.poison in bodies(batch):
            raise StoreUnavailable("ResponseError ERR")
        if self.fails_on in bodies(batch):
            raise KeyError(self.fails_on)
        self.batches.append(bodies(batch))
        return "redis"

    async def close(self) -> None:
        """Close nothing."""

    @property
    def accepted(self) -> list[str]:
        return [body for batch in self.batches for body in batch]


@asynccontextmanager
async def running(redis: Redis, folder: SpoolFolder | None) -> AsyncIterator[FallbackStore]:
    """Run a store and its drainer."""
    store = FallbackStore(redis, redis, redis, folder)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def until(true: Callable[[], object]) -> None:
    """Wait until `true()`, for up to 30 seconds."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 # what it waits for sets no event
            await asyncio.sleep(0.001)


def spool(path: Path, *, limit_bytes: int = 1 << 30) -> SpoolFolder:
    """Return a folder of spools that is not open yet."""
    return SpoolFolder(path / "spool", limit_bytes=limit_bytes)


def lines(caplog: pytest.LogCaptureFixture, action: str = "spool") -> list[str]:
    """Return the log lines of an action."""
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(f"action={action} ")]
