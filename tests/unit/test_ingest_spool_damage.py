"""A spool whose file is damaged: the rest is drained, and no byte of it is lost."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.spool.file import SpoolMalformed
from ingest.spool.folder import SpoolFolder
from tests.unit.spools import callback, damage, drained, next_load


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE batches SET entries = substr(entries, 1, 10) WHERE id = 2",
        "UPDATE batches SET entries = zeroblob(length(entries)) WHERE id = 2",
        "UPDATE batches SET digest = zeroblob(16) WHERE id = 2",
        "UPDATE batches SET entries = CAST(entries AS TEXT), digest = 'text', oldest_ms = 'x' WHERE id = 2",
        "UPDATE batches SET entries = CAST(x'ff' AS TEXT) WHERE id = 2",
    ],
)
def test_a_damaged_row_is_moved_to_a_file_and_the_rest_is_drained(
    opened: Callable[..., SpoolFolder], caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    first = opened()
    for body in "abc":
        first.append([callback(body * 20)])
    first.close()
    damage(first.path / "spool-0.db", harm)
    second = opened()
    assert drained(second) == ["a" * 20, "c" * 20]
    [aside] = second.path.glob("*.damaged")
    assert aside.read_bytes()
    assert aside.name in caplog.text
    assert "record=2 callbacks=1" in caplog.text
    assert "bbbb" not in caplog.text
    assert second.backlog.callbacks == 0


def test_a_damaged_row_that_cannot_be_moved_stays_and_the_rest_is_drained(
    opened: Callable[..., SpoolFolder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = opened()
    for body in "abc":
        first.append([callback(body)])
    first.close()
    damage(first.path / "spool-0.db", "UPDATE batches SET digest = zeroblob(16) WHERE id = 2")

    def no_room(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    second = opened()
    monkeypatch.setattr("ingest.spool.spool.write_new", no_room)
    assert drained(second) == ["a", "c"]
    assert second.backlog.callbacks == 1
    assert "not_moved=ENOSPC" in caplog.text
    second.close()
    monkeypatch.undo()
    third = opened()
    assert drained(third) == []
    assert len(list(third.path.glob("*.damaged"))) == 1


def test_a_file_that_is_not_a_database_is_renamed_and_a_new_one_made(
    opened: Callable[..., SpoolFolder], caplog: pytest.LogCaptureFixture
) -> None:
    first = opened()
    first.append([callback("a")])
    first.close()
    (first.path / "spool-0.db").write_bytes(b"not a database" * 1000)
    second = opened()
    second.append([callback("b")])
    assert drained(second) == ["b"]
    [aside] = second.path.glob("*.malformed")
    assert aside.read_bytes().startswith(b"not a database")
    assert f"moved_to={aside.name}" in caplog.text


def test_a_file_that_is_damaged_in_its_middle_is_drained_up_to_there_and_renamed(
    opened: Callable[..., SpoolFolder],
) -> None:
    first = opened()
    for number in range(200):
        first.append([callback(f"{number:03}" + "x" * 1000)])
    first.close()
    file = first.path / "spool-0.db"
    content = bytearray(file.read_bytes())
    pages = len(content) // 4096
    for page in range(pages // 2, pages // 2 + 4):
        content[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    file.write_bytes(content)
    second = opened()
    second.append([callback("new")])
    found = drained(second)
    assert 0 < len(found) < 200
    assert [body[:3] for body in found] == [f"{number:03}" for number in range(len(found) - 1)] + ["new"]
    assert len(list(second.path.glob("*.malformed"))) == 1
    assert second.backlog.callbacks == 0
    assert len(list(second.path.glob("*.db"))) == 1


def test_after_damage_is_found_new_batches_go_to_another_file(
    opened: Callable[..., SpoolFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = opened()
    folder.append([callback("a")])
    [spool] = folder._held()
    works = spool.file.run

    def malformed(work: Callable[[sqlite3.Connection], object]) -> object:
        monkeypatch.setattr(spool.file, "run", works)
        raise SpoolMalformed("SQLITE_CORRUPT")

    monkeypatch.setattr(folder, "_size_bytes", lambda: 0)
    monkeypatch.setattr(spool.file, "run", malformed)
    folder.append([callback("b")])
    assert len(folder._held()) == 2
    assert drained(folder) == ["a", "b"]


def test_rows_of_a_replaced_file_delete_nothing_from_the_new_one(opened: Callable[..., SpoolFolder]) -> None:
    folder = opened()
    folder.append([callback("old")])
    load = next_load(folder)
    load.spool.file.replace_malformed(SpoolMalformed("SQLITE_CORRUPT"))
    folder.append([callback("new")])
    folder.remove(load, load.rows)
    assert drained(folder) == ["new"]
