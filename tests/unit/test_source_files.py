"""Which files `callbacks dev --reload` watches, and what counts as a change."""

import os
from pathlib import Path

import pytest

from callbacks.cli.reloader import describe_files
from callbacks.cli.source_files import SourceFiles


@pytest.fixture
def sources(tmp_path: Path) -> SourceFiles:
    (tmp_path / "shop").mkdir()
    for name in ("orders.py", "shop/prices.py", "notes.txt"):
        (tmp_path / name).write_text("1")
    return SourceFiles([str(tmp_path)])


def test_written_new_and_removed_files_are_changes_once(sources: SourceFiles, tmp_path: Path) -> None:
    assert sources.find_changes() == []

    (tmp_path / "orders.py").write_text("22")
    (tmp_path / "shop" / "prices.py").unlink()
    (tmp_path / "shop" / "new.py").write_text("1")
    (tmp_path / "notes.txt").write_text("22")

    assert sources.find_changes() == [tmp_path / "orders.py", tmp_path / "shop/new.py", tmp_path / "shop/prices.py"]
    assert sources.find_changes() == []


def test_a_file_that_takes_the_name_of_another_is_a_change(sources: SourceFiles, tmp_path: Path) -> None:
    file, new = tmp_path / "orders.py", tmp_path / "orders.tmp"
    new.write_text("2")
    before = file.stat()
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(file)

    assert sources.find_changes() == [file]


@pytest.mark.parametrize("folder", [".git", "__pycache__", "node_modules", "env", "var"])
def test_what_is_not_the_projects_own_code_is_not_watched(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / "env").mkdir(exist_ok=True)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    sources = SourceFiles([str(tmp_path)])
    (tmp_path / folder / "file.py").touch()

    assert sources.find_changes() == []


def test_a_link_to_a_folder_above_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)

    assert SourceFiles([str(tmp_path), str(tmp_path / "missing")]).find_changes() == []


def test_folders_that_are_added_are_as_they_are(sources: SourceFiles, tmp_path: Path) -> None:
    other = tmp_path / ".other"
    other.mkdir()
    (other / "a.py").write_text("1")
    sources.add_folders([str(other)])
    assert sources.find_changes() == []

    (other / "a.py").write_text("22")
    assert sources.find_changes() == [other / "a.py"]


def test_it_reads_the_nearest_folders_of_a_tree_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callbacks.cli.source_files._MAX_FOLDERS", 2)
    near, far = tmp_path / "a" / "near.py", tmp_path / "a" / "b" / "far.py"
    far.parent.mkdir(parents=True)
    sources = SourceFiles([str(tmp_path)])
    near.touch()
    far.touch()

    assert sources.find_changes() == [near]


def test_of_many_files_three_are_named() -> None:
    files = [Path(f"/shop/{name}.py") for name in "abcde"]

    assert describe_files(files[:3]) == "a.py, b.py, c.py"
    assert describe_files(files) == "a.py, b.py, c.py and 2 more files"
