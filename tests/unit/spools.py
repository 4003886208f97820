"""Spools for tests: opened as processes would, and left as processes do that die."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ingest.commit import Entry
from ingest.spool_folder import Load, SpoolFolder
from shared.batches import Kept


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
