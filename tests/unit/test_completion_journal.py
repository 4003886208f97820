"""A worker's notes of what its handler has finished: they outlive it, and say nothing that was not finished."""

import errno
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from workers.runtime import completion_journal
from workers.runtime.completion_journal import MAX_COMPLETIONS, CompletionJournal
from workers.runtime.journal_folder import JournalFolder

JOBS = ["a" * 32, "b" * 32]
WORKER = "deliver-log-0123456789abcdef0123456789abcdef"


@pytest.fixture
def journals(tmp_path: Path) -> JournalFolder:
    return JournalFolder(tmp_path / "run")


def test_other_processes_can_read_what_is_recorded(journals: JournalFolder) -> None:
    with closing(journals.open(WORKER)) as journal:
        journal.begin(JOBS)
        assert journal.record(1, [0, 3])
        assert journal.record(0, [70_000])

        assert journals.read(WORKER) == journal.read() == {JOBS[0]: frozenset([70_000]), JOBS[1]: frozenset([0, 3])}


def test_what_is_settled_is_no_longer_recorded(journals: JournalFolder) -> None:
    with closing(journals.open(WORKER)) as journal:
        journal.begin(JOBS)
        journal.record(0, [1, 2])
        journal.clear()
        journal.record(1, [5])

        assert journals.read(WORKER) == {JOBS[1]: frozenset([5])}


class KilledAmidCopies:
    """The words of a journal whose process dies amid each copy of several words, and leaves a word of another item."""

    def __init__(self, words: Any) -> None:
        self._words = words

    def __setitem__(self, where: int | slice, value: Any) -> None:
        if isinstance(where, slice):
            self._words[where.start] = 1
            raise KeyboardInterrupt
        self._words[where] = value


def test_a_kill_amid_a_copy_leaves_no_half_of_a_record(journals: JournalFolder) -> None:
    with closing(journals.open(WORKER)) as journal:
        journal.begin(JOBS)
        journal.record(1, [5])
        words, journal._words = journal._words, KilledAmidCopies(journal._words)  # type: ignore[assignment]

        with pytest.raises(KeyboardInterrupt):
            journal.record(1, [6, 7])
        assert journals.read(WORKER) == {JOBS[1]: frozenset([5])}

        words[completion_journal._FIRST_RECORD + 1] = 0
        journal._words = words


def test_a_kill_amid_a_clearance_leaves_no_half_of_a_record(journals: JournalFolder) -> None:
    with closing(journals.open(WORKER)) as journal:
        journal.begin(JOBS)
        journal.record(1, [5, 6])
        words, journal._words = journal._words, KilledAmidCopies(journal._words)  # type: ignore[assignment]

        with pytest.raises(KeyboardInterrupt):
            journal.clear()
        assert journals.read(WORKER) == {}

        journal._words = words


def test_the_records_of_one_run_are_not_those_of_the_next(journals: JournalFolder) -> None:
    with closing(journals.open(WORKER)) as journal:
        journal.begin(JOBS)
        journal.record(1, [0])
        journal.begin(["c" * 32])

        assert journals.read(WORKER) == {}


def test_a_full_journal_says_so_and_takes_records_again_after_it_is_cleared(journals: JournalFolder) -> None:
    with closing(journals.open(WORKER)) as journal:
        journal.begin(JOBS)
        assert journal.record(0, range(MAX_COMPLETIONS - 1))
        assert not journal.record(0, [MAX_COMPLETIONS - 1, MAX_COMPLETIONS])
        assert not journal.record(1, [7])
        assert journals.read(WORKER) == {JOBS[0]: frozenset(range(MAX_COMPLETIONS))}

        journal.clear()

        assert journal.record(1, [7])
        assert journals.read(WORKER) == {JOBS[1]: frozenset([7])}


def test_more_jobs_than_it_can_name_leave_it_full_for_that_run_alone(journals: JournalFolder) -> None:
    with closing(journals.open(WORKER)) as journal:
        journal.begin(["x" * 300_000, "y" * 300_000])
        assert not journal.record(0, [1])

        journal.begin(JOBS)
        assert journal.record(0, [1])


def test_records_survive_a_sigkill_and_show_which_worker_died(journals: JournalFolder, tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from workers.runtime.journal_folder import JournalFolder
journal = JournalFolder(Path({str(tmp_path / "run")!r})).open({WORKER!r})
journal.begin({JOBS!r})
journal.record(0, [7])
print("noted", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "noted\n"
        assert list(journals.list_workers()) == [(WORKER, True)]
        worker.kill()

    assert list(journals.list_workers()) == [(WORKER, False)]
    assert journals.read(WORKER) == {JOBS[0]: frozenset([7])}
    journals.remove(WORKER)
    assert list(journals.list_workers()) == []


def test_closed_without_records_it_leaves_no_file(journals: JournalFolder, tmp_path: Path) -> None:
    journal = journals.open(WORKER)
    journal.begin(JOBS)
    journal.record(0, [0])
    journal.clear()
    journal.close()
    journal.close()

    assert list((tmp_path / "run").iterdir()) == []


def test_closed_with_records_it_leaves_its_file(journals: JournalFolder, tmp_path: Path) -> None:
    journal = journals.open(WORKER)
    journal.begin(JOBS)
    journal.record(0, [4])
    journal.close()

    assert list(journals.list_workers()) == [(WORKER, False)]
    assert journals.read(WORKER) == {JOBS[0]: frozenset([4])}
    assert not journals.is_expired(WORKER)
    os.utime(tmp_path / "run" / WORKER, (0, 0))
    assert journals.is_expired(WORKER)


def test_a_file_cut_short_or_missing_has_no_records(journals: JournalFolder, tmp_path: Path) -> None:
    assert journals.read(WORKER) == {}
    (tmp_path / "run").mkdir()
    for content in (b"", b"abc", bytes(100)):
        (tmp_path / "run" / WORKER).write_bytes(content)

        assert journals.read(WORKER) == {}


def test_a_half_made_file_is_removed_when_it_is_old(journals: JournalFolder, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    half = tmp_path / "run" / f".{WORKER}"
    half.touch()
    assert list(journals.list_workers()) == []
    assert half.exists(), "its worker may be about to lock it"

    os.utime(half, (0, 0))
    assert list(journals.list_workers()) == []

    assert not half.exists()


def others_files(folder: Path) -> list[Path]:
    """Put into the folder, long ago, what others may have there: also under names that are nearly a worker's."""
    folder.mkdir()
    for name in (".env", ".htpasswd", "app.lock", "deliver-log", f"{WORKER}.txt", f"..{WORKER}", f"other-{'0' * 32}"):
        (folder / name).write_text("somebody's")
    (folder / "unreadable").touch(mode=0)
    (folder / "unreadable").chmod(0)
    (folder / ".folder").mkdir()
    (folder / "link").symlink_to(".env")
    for name in ("pipe", f".deliver-pipe-{'1' * 32}", f"deliver-pipe-{'2' * 32}"):
        os.mkfifo(folder / name)
    for name in (f".deliver-link-{'3' * 32}", f"deliver-link-{'4' * 32}"):
        (folder / name).symlink_to(".env")
    (folder / f".expand-{'5' * 32}").mkdir()
    (folder / f"expand-{'6' * 32}").mkdir()
    paths = list(folder.iterdir())
    for path in paths:
        os.utime(path, (0, 0), follow_symlinks=False)
    return sorted(paths)


def test_nothing_of_others_in_the_folder_is_removed_or_taken_for_a_workers(
    journals: JournalFolder, tmp_path: Path
) -> None:
    paths = others_files(tmp_path / "run")

    assert list(journals.list_workers()) == []
    for path in paths:
        assert journals.read(path.name) == {}

    assert sorted((tmp_path / "run").iterdir()) == paths
    assert (tmp_path / "run" / ".env").read_text() == "somebody's"


def test_nothing_of_others_in_the_folder_is_opened(
    journals: JournalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others_files(tmp_path / "run")
    opened: list[object] = []
    monkeypatch.setattr(os, "open", lambda path, *_: opened.append(path))

    list(journals.list_workers())

    assert opened == []


@pytest.mark.parametrize("name", ["../secret", ".env", "/etc/passwd", ""])
def test_only_a_file_with_a_workers_name_is_removed(journals: JournalFolder, tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".env").touch()
    (tmp_path / "secret").touch()

    journals.remove(name)

    assert (tmp_path / "run" / ".env").exists()
    assert (tmp_path / "secret").exists()


def test_where_no_file_can_be_had_it_works_without_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("not a folder")

    with closing(JournalFolder(tmp_path / "run").open(WORKER)) as journal:
        journal.begin(JOBS)
        journal.record(1, [2])

        assert journal.read() == {JOBS[1]: frozenset([2])}
    assert "action=journal_not_created" in caplog.text


def test_an_empty_setting_has_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with closing(JournalFolder.from_run_dir("").open(WORKER)) as journal:
        journal.begin(JOBS)
        journal.record(0, [0])

    assert list(tmp_path.iterdir()) == []


def test_a_jobs_field_holds_what_several_runs_have_added() -> None:
    assert completion_journal.parse_finished("0,1,5;3;") == frozenset([0, 1, 2, 5])
    assert completion_journal.parse_finished("") == frozenset()


def test_a_file_that_a_crash_of_the_machine_left_says_nothing(
    journals: JournalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journals.open(WORKER)
    journal.begin(JOBS)
    journal.record(1, [0])
    journal.close()
    whole = (tmp_path / "run" / WORKER).read_bytes()

    (tmp_path / "run" / WORKER).write_bytes(bytes(4096) + whole[4096:])
    assert journals.read(WORKER) == {}, "a page of it is lost"
    (tmp_path / "run" / WORKER).write_bytes(whole)
    assert journals.read(WORKER) == {JOBS[1]: frozenset([0])}
    monkeypatch.setattr(completion_journal, "_boot_id", lambda: "another")
    assert journals.read(WORKER) == {}


def test_a_file_that_cannot_be_removed_is_logged_once_and_left(
    journals: JournalFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / WORKER).touch()
    monkeypatch.setattr(Path, "unlink", refuse)
    assert list(journals.list_workers()) == [(WORKER, False)]

    journals.remove(WORKER)

    assert list(journals.list_workers()) == []
    assert caplog.text.count("action=journal_not_removed") == 1


def test_a_child_that_a_handler_forks_does_not_keep_a_dead_workers_lock(
    journals: JournalFolder, tmp_path: Path
) -> None:
    script = f"""
import os, sys, time
from pathlib import Path
from workers.runtime.journal_folder import JournalFolder
journal = JournalFolder(Path({str(tmp_path / "run")!r})).open({WORKER!r})
if os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
os._exit(0)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        worker.wait()
        try:
            assert list(journals.list_workers()) == [(WORKER, False)]
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_journal_without_a_file_takes_records_too() -> None:
    with closing(CompletionJournal()) as journal:
        journal.begin(JOBS)
        journal.record(0, [0])

        assert journal.read() == {JOBS[0]: frozenset([0])}
