"""Spools as processes open them and leave them when they die, and a Redis that does as it is told."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingest.commit import Entry
from ingest.spool import drain
from ingest.spool.folder import Load, SpoolFolder
from ingest.spool.store import SpoolingStore
from shared.batches import Kept
from shared.errors import NotKept


def callback(body: str, *, received_ms: int = 1) -> Kept:
    return Kept("status", "gateway", received_ms, 1, body)


def bodies(entries: Sequence[Entry]) -> list[str]:
    return [entry.body if isinstance(entry, Kept) else entry.body.decode() for entry in entries]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., SpoolFolder]]:
    """Give a function that opens the folder once more, as another process would."""
    folders: list[SpoolFolder] = []

    def open_folder(*, limit_bytes: int = 1 << 30) -> SpoolFolder:
        folder = SpoolFolder(tmp_path / "spool", limit_bytes=limit_bytes)
        folder.open()
        folders.append(folder)
        return folder

    yield open_folder
    for folder in folders:
        folder.close()


def died(folder: SpoolFolder) -> None:
    """Let go of the files as a killed process does: the locks end, nothing is tidied up."""
    for spool in folder._held():
        spool.file.close()
    folder._own, folder._others = None, []


def drained(folder: SpoolFolder) -> list[str]:
    """Take everything out, and give it in the order in which it came."""
    found: list[str] = []
    while (load := folder.next()) is not None:
        found += [body for row in load.rows for body in bodies(row.entries)]
        folder.remove(load, load.rows)
    return found


def next_load(folder: SpoolFolder) -> Load:
    """Give what is to be drained next; there has to be something."""
    load = folder.next()
    assert load is not None
    return load


def damage(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(sql)
    db.close()


class Redis:
    """A store and a gate that do as they are told."""

    def __init__(self) -> None:
        self.refusal: str | None = None
        self.refuses = ""
        self.poison = ""
        self.faulty = ""
        self.batches: list[list[str]] = []
        self.asked = 0

    async def write(self, batch: Sequence[Entry]) -> None:
        if self.refusal is not None:
            raise NotKept(self.refusal)
        self.asked += 1
        if self.refuses:
            raise NotKept(self.refuses)
        if self.poison in bodies(batch):
            raise NotKept("ResponseError ERR")
        if self.faulty in bodies(batch):
            raise KeyError(self.faulty)
        self.batches.append(bodies(batch))

    async def close(self) -> None:
        """Nothing to give back."""

    @property
    def kept(self) -> list[str]:
        return [body for batch in self.batches for body in batch]


@asynccontextmanager
async def running(redis: Redis, folder: SpoolFolder | None) -> AsyncIterator[SpoolingStore]:
    """Run a store that drains."""
    store = SpoolingStore(redis, redis, redis, folder)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def until(true: Callable[[], object]) -> None:
    """Wait until `true()`, for a generous while."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 # what is waited for tells nobody
            await asyncio.sleep(0.001)


def spool(path: Path, *, limit_bytes: int = 1 << 30) -> SpoolFolder:
    """Give a folder of spools that is not open yet."""
    return SpoolFolder(path / "spool", limit_bytes=limit_bytes)


def lines(caplog: pytest.LogCaptureFixture, action: str = "spool") -> list[str]:
    """Give what was logged of an action."""
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(f"action={action} ")]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let draining look again at once."""
    monkeypatch.setattr(drain, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(drain, "PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(drain, "LOOK_EVERY_SECONDS", 0.005)
