"""What is written comes to the disk on systems, such as macOS, that lack some of Linux's calls."""

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from callbacks import samples
from ingest.spool.file import write_new
from ingest.spool.folder import SpoolFolder
from shared import disk
from tests.unit.spools import callback, drained
from workers.handlers.jsonl import folder
from workers.handlers.jsonl.gzip_worker import GzipWorker
from workers.handlers.jsonl.writer import Writer
from workers.runtime.journal_folder import JournalFolder

# The command's number on macOS.
FULL_SYNC = 51


@pytest.fixture(autouse=True)
def macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what macOS lacks."""
    for name in ("posix_fallocate", "fdatasync"):
        monkeypatch.delattr(os, name, raising=False)


def write_spool(path: Path) -> None:
    spool = SpoolFolder(path / "spool", limit_bytes=1 << 30)
    spool.open()
    spool.append([callback("a")])
    assert drained(spool) == ["a"]
    spool.close()
    write_new(path / "damaged", b"raw")
    assert (path / "damaged").read_bytes() == b"raw"


def write_lines(path: Path) -> None:
    events = [samples.report() for _ in range(20)]
    for event in events:
        writer = Writer(path, max_bytes=2000)
        with closing(writer):
            writer.write([event])
    GzipWorker(path).compress_closed()
    assert {found.suffix for found in folder.list_files(path)} == {".gz", ".jsonl"}


def write_journal(path: Path) -> None:
    journals = JournalFolder(path / "run")
    with closing(journals.open("deliver-log-0123456789abcdef0123456789abcdef")) as journal:
        assert list((path / "run").iterdir()), "it is in a file, not only in memory"
        journal.begin(["a" * 32])
        journal.record(0, [3])
        assert journal.read() == {"a" * 32: frozenset([3])}


@pytest.mark.parametrize("write", [write_spool, write_lines, write_journal])
def test_each_writer_of_files_works_there(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)


def test_the_room_that_is_reserved_is_really_written(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        disk.allocate(file.fileno(), 200_000)

    status = (tmp_path / "file").stat()
    assert status.st_size == 200_000
    assert (tmp_path / "file").read_bytes() == bytes(200_000)


@pytest.mark.parametrize("sync", [disk.sync_data, disk.sync_file])
@pytest.mark.parametrize("is_supported", [True, False], ids=["full sync", "a file system without it"])
def test_the_disks_own_cache_is_emptied_where_the_system_has_that(
    sync: Callable[[int], None], is_supported: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def full_sync(_descriptor: int, command: int, *_: Any) -> int:
        assert command == FULL_SYNC
        if not is_supported:
            raise OSError(45, "Operation not supported")
        called.append("full sync")
        return 0

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL_SYNC, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full_sync)
    monkeypatch.setattr(os, "fsync", lambda _descriptor: called.append("fsync"))

    with (tmp_path / "file").open("wb") as file:
        sync(file.fileno())

    assert called == (["full sync"] if is_supported else ["fsync"])


def test_a_folder_is_tried_and_nothing_stays_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert disk.find_write_problem(tmp_path / "new" / "folder") == ""
    assert disk.find_write_problem(tmp_path / "file" / "below").endswith(f"{tmp_path}/file is not a folder")
    assert disk.find_write_problem(Path("/proc/new")).startswith("/proc/new cannot be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("number", "is_problem"), [(errno.ENOSPC, False), (errno.EROFS, True)])
def test_a_full_disk_is_not_a_folder_that_cannot_be_written(
    number: int, is_problem: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.TemporaryFile", fail)

    assert bool(disk.find_write_problem(tmp_path)) == is_problem


def test_no_other_module_of_the_product_syncs_or_allocates_by_itself() -> None:
    root = Path(__file__).parents[2]
    found = [
        path.relative_to(root).as_posix()
        for package in ("callbacks", "ingest", "shared", "workers")
        for path in (root / package).rglob("*.py")
        if any(f"os.{name}(" in path.read_text() for name in ("fsync", "fdatasync", "posix_fallocate"))
    ]
    assert found == ["shared/disk.py"]
