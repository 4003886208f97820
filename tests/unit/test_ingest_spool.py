"""The spool on the disk: what is appended stays until it is removed, whatever happens to the file in between."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.group_commit import MAX_BYTES, MAX_CALLBACKS
from ingest.spool import folder as spool_folder
from ingest.spool.file import DiskUnavailable
from ingest.spool.folder import SpoolFolder, SpoolFull
from ingest.spool.spool import Spool, pack
from shared.batches import Quarantined
from tests.unit.spools import bodies, callback, died, drained, next_load


def test_batches_are_read_whole_and_in_order(opened: Callable[..., SpoolFolder]) -> None:
    folder = opened()
    quarantined = Quarantined(kind=None, source="gateway", received_ms=5, error="what", body=b"\xff\x00")
    folder.append([callback("a"), callback("💬\x00", received_ms=7)])
    folder.append([quarantined])
    load = next_load(folder)
    assert [entry for row in load.rows for entry in row.entries] == [
        callback("a"),
        callback("💬\x00", received_ms=7),
        quarantined,
    ]
    assert (folder.backlog.callbacks, folder.backlog.oldest_ms) == (3, 1)


def test_a_batch_stays_until_it_is_removed(opened: Callable[..., SpoolFolder]) -> None:
    folder = opened()
    folder.append([callback("a")])
    folder.append([callback("b")])
    for _ in range(2):
        assert [bodies(row.entries) for row in next_load(folder).rows] == [["a"], ["b"]]
        assert folder.next_batch() is None  # the end; the next call starts again
    load = next_load(folder)
    folder.remove(load, load.rows[:1])
    folder.rewind(load)
    assert drained(folder) == ["b"]
    assert folder.backlog.callbacks == 0
    assert folder.backlog.oldest_ms is None


def test_a_later_process_finds_what_a_dead_one_left(opened: Callable[..., SpoolFolder]) -> None:
    first = opened()
    first.append([callback("a")])
    died(first)
    second = opened()
    assert second.backlog.callbacks == 1
    second.append([callback("b")])
    assert drained(second) == ["a", "b"]


def test_appended_batches_survive_a_kill_of_the_process(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from ingest.spool.folder import SpoolFolder\n"
        "from shared.batches import Accepted\n"
        "folder = SpoolFolder(Path(sys.argv[1]), limit_bytes=1 << 30)\n"
        "for number in range(50):\n"
        "    folder.append([Accepted('status', 'gateway', 1, 1, str(number))])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9
    folder = SpoolFolder(tmp_path, limit_bytes=1 << 30)
    folder.open()
    assert drained(folder) == [str(number) for number in range(50)]
    folder.close()


def test_each_process_has_its_own_spool_and_takes_over_those_of_dead_processes(
    opened: Callable[..., SpoolFolder],
) -> None:
    first, second, third = opened(), opened(), opened()
    for folder, body in ((first, "1"), (second, "2"), (third, "3")):
        folder.append([callback(body)])
    third.take_over_orphans()
    assert third.backlog.callbacks == 1  # no process is dead
    died(first)
    died(second)
    third.take_over_orphans()
    assert third.backlog.callbacks == 3
    third.append([callback("4")])
    assert drained(third) == ["1", "2", "3", "4"]
    assert [path.name for path in sorted(third.path.glob("*.db"))] == ["spool-2.db"]


def test_on_close_an_empty_spool_is_deleted_and_any_other_stays(opened: Callable[..., SpoolFolder]) -> None:
    empty, full = opened(), opened()
    full.append([callback("a")])
    empty.close()
    full.close()
    assert [path.name for path in full.path.glob("*.db*")] == ["spool-1.db"]
    later = opened()
    later.take_over_orphans()
    assert drained(later) == ["a"]


def test_only_its_owner_may_read_it(opened: Callable[..., SpoolFolder]) -> None:
    before = os.umask(0)
    try:
        folder = opened()
        folder.append([callback("35699000001")])
        load = next_load(folder)
        folder.move_to_file(load, load.rows[0], "damaged")
    finally:
        os.umask(before)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in folder.path.iterdir()}
    assert modes == {".db": 0o600, ".db-wal": 0o600, ".lock": 0o600, ".damaged": 0o600}


def test_a_commit_is_fsynced(opened: Callable[..., SpoolFolder]) -> None:
    folder = opened()
    for pragma, value in (("synchronous", 2), ("journal_mode", "wal"), ("locking_mode", "exclusive")):
        [spool] = folder._held()
        found = spool.file.run(partial(_read_pragma, pragma))
        assert found == value


def test_a_file_that_somebody_deleted_is_still_drained_and_a_new_one_is_made(
    opened: Callable[..., SpoolFolder],
) -> None:
    folder = opened()
    folder.append([callback("a" * 400_000)])
    for path in folder.path.iterdir():
        path.unlink()
    folder.path.rmdir()
    folder.append([callback("b")])
    assert (folder.path / "spool-0.db").exists()
    other = opened()
    assert other.backlog.callbacks == 0  # the new one is held too
    assert drained(folder) == ["a" * 400_000, "b"]
    assert sorted(path.name for path in folder.path.glob("*.db")) == ["spool-0.db", "spool-1.db"]


def test_two_processes_never_hold_one_file_even_if_its_lock_was_deleted(opened: Callable[..., SpoolFolder]) -> None:
    first = opened()
    first.append([callback("a")])
    (first.path / "spool-0.lock").unlink()
    second = opened()
    assert second.backlog.callbacks == 0
    second.append([callback("b")])
    assert drained(second) == ["b"]
    assert drained(first) == ["a"]


def test_beyond_its_limit_the_spool_is_full_until_something_is_drained(opened: Callable[..., SpoolFolder]) -> None:
    folder = opened(limit_bytes=200_000)
    for _ in range(15):
        folder.append([callback("x" * 10_000)])
    with pytest.raises(SpoolFull):
        folder.append([callback("x" * 40_000)])
    assert folder.backlog.size_bytes <= 200_000
    assert len(drained(folder)) == 15
    folder.append([callback("x" * 10_000)])


def test_the_limit_counts_what_other_processes_hold(opened: Callable[..., SpoolFolder]) -> None:
    first, second = opened(), opened(limit_bytes=200_000)
    first.append([callback("x" * 190_000)])
    first.close()
    with pytest.raises(SpoolFull):
        second.append([callback("x" * 20_000)])


def test_disk_space_is_freed_once_the_spool_is_drained(opened: Callable[..., SpoolFolder]) -> None:
    folder = opened()
    for _ in range(20):
        folder.append([callback("x" * 100_000)])
    size_bytes = sum(path.stat().st_size for path in folder.path.iterdir())
    assert size_bytes > 2_000_000
    drained(folder)
    assert sum(path.stat().st_size for path in folder.path.iterdir()) < 200_000
    folder.append([callback("after")])
    assert drained(folder) == ["after"]


def test_rows_that_cannot_be_deleted_are_not_read_again_and_are_deleted_with_the_file(
    opened: Callable[..., SpoolFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = opened()
    for number in range(3):
        folder.append([callback(str(number)) for _ in range(MAX_CALLBACKS)])

    def no_room(spool: Spool, db: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Spool, "_delete", no_room)
    first = next_load(folder)
    folder.remove(first, first.rows)
    folder.rewind(first)
    assert bodies(next_load(folder).rows[0].entries)[0] == "1"
    folder.rewind(first)
    assert len(drained(folder)) == 2 * MAX_CALLBACKS
    assert folder.backlog.callbacks == 0
    assert folder.next_batch() is None
    died(folder)
    assert opened().backlog.callbacks == 0


def test_a_folder_that_cannot_be_made_is_reported_by_the_name_of_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "spool"):
        folder = SpoolFolder(path, limit_bytes=1 << 30)
        with pytest.raises(DiskUnavailable, match=r"EEXIST|ENOTDIR"):
            folder.open()
        with pytest.raises(DiskUnavailable):
            folder.append([callback("a")])
        folder.close()


def test_the_spool_works_as_soon_as_the_folder_can_be_made(tmp_path: Path) -> None:
    in_the_way = tmp_path / "spool"
    in_the_way.write_text("in the way")
    folder = SpoolFolder(in_the_way, limit_bytes=1 << 30)
    with pytest.raises(DiskUnavailable):
        folder.open()
    in_the_way.unlink()
    folder.take_over_orphans()
    folder.probe()
    folder.append([callback("a")])
    assert drained(folder) == ["a"]
    folder.close()


def test_an_orphaned_spool_that_cannot_be_opened_is_logged_once_and_blocks_nothing(
    opened: Callable[..., SpoolFolder], caplog: pytest.LogCaptureFixture
) -> None:
    folder = opened()
    (folder.path / "spool-7.db").mkdir()
    for _ in range(3):
        folder.take_over_orphans()
    assert caplog.text.count("action=spool_takeover_failed file=spool-7.db") == 1
    folder.append([callback("a")])
    assert drained(folder) == ["a"]


def test_other_files_in_the_folder_block_nothing(opened: Callable[..., SpoolFolder]) -> None:
    folder = opened()
    os.mkfifo(folder.path / "spool-7.db")
    (folder.path / "circle").symlink_to("circle")

    folder.take_over_orphans()
    folder.append([callback("a")])

    assert drained(folder) == ["a"]


def test_the_number_of_spools_is_limited(opened: Callable[..., SpoolFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_folder, "_MAX_SPOOLS", 2)
    opened(), opened()
    with pytest.raises(DiskUnavailable):
        opened()


@given(sizes=st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=300), min_size=1, max_size=8))
def test_a_drained_batch_is_what_one_commit_takes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[list[int]]
) -> None:
    folder = SpoolFolder(tmp_path_factory.mktemp("spool"), limit_bytes=1 << 30)
    for batch in sizes:
        folder.append([callback("x" * size) for size in batch])
    found = []
    while (load := folder.next_batch()) is not None:
        callbacks = sum(len(row.entries) for row in load.rows)
        assert callbacks <= MAX_CALLBACKS
        assert sum(len(row.raw) for row in load.rows) <= MAX_BYTES or len(load.rows) == 1
        found += [[len(body) for body in bodies(row.entries)] for row in load.rows]
        folder.remove(load, load.rows)
    assert found == sizes
    folder.close()


def test_a_batch_is_stored_with_the_time_of_its_oldest() -> None:
    assert pack([callback("a", received_ms=9), callback("b", received_ms=3)]).oldest_ms == 3


def _read_pragma(pragma: str, db: sqlite3.Connection) -> object:
    [(value,)] = db.execute(f"PRAGMA {pragma}").fetchall()
    return value
