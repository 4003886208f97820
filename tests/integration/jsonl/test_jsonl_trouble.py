"""The handler `jsonl` where workers die in the middle of a line, the disk is full or failing, or somebody hangs."""

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import callbacks.disk
from callbacks import Event, Pause, samples
from shared import keys
from tests.integration.handler_process import Process, lines, of_folder, written
from tests.integration.harness import Harness, open_harness, reply, statuses
from tests.integration.runtime.pools import Command, until
from tests.redis_server import RedisServer
from tests.small_disk import ballast
from workers.handlers.jsonl import folder
from workers.handlers.jsonl.gzip_worker import GzipWorker
from workers.handlers.jsonl.handler import EventFiles, jsonl
from workers.handlers.jsonl.writer import Writer
from workers.runtime.settlement import MAX_DEATHS

# A limit to the size of a file lets a part of a write through; going on with it then kills the process.
DIES_IN_A_LINE = """
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
"""
# Between the write and the fsync.
DIES_BEFORE_THE_FSYNC = "os.fdatasync = lambda _: os.kill(os.getpid(), signal.SIGKILL)"


def some(number: int) -> list[Event]:
    return [samples.report() for _ in range(number)]


def ids(directory: Path) -> list[str]:
    return [line["id"] for line in written(directory)]


def process(directory: Path, *, prelude: str = "", **environment: str) -> Process:
    return Process(
        "workers.handlers.jsonl.handler", "jsonl", prelude=prelude, CALLBACKS_JSONL_DIR=str(directory), **environment
    )


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Be another process that holds the lock."""
    lock = os.open(file, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield
    os.close(lock)


def test_a_worker_killed_in_the_middle_of_a_line_leaves_whole_lines_and_its_batch_comes_once(tmp_path: Path) -> None:
    before, batch, after = some(5), some(50), some(1)
    dying = process(tmp_path, prelude=DIES_IN_A_LINE)
    dying.say(before, batch)
    assert dying.ended() == -25, "SIGXFSZ"
    (path,) = of_folder(tmp_path)
    assert path.stat().st_size == 20_000
    assert not path.read_bytes().endswith(b"\n"), "the end of a line is missing"

    writer = Writer(tmp_path, max_bytes=1 << 20)
    writer.write(after)
    whole = ids(tmp_path)
    assert whole == [event.id for event in [*before, *batch][: len(whole) - 1]] + [after[0].id]
    writer.write(batch)

    assert sorted(ids(tmp_path)) == sorted(event.id for event in [*before, *batch, *after])


def test_a_worker_killed_after_the_write_leaves_lines_that_are_known_to_the_next(tmp_path: Path) -> None:
    batch = some(20)
    dying = process(tmp_path, prelude=DIES_BEFORE_THE_FSYNC)
    dying.say(batch)
    assert dying.ended() == -9
    assert len(lines(tmp_path)) == 20

    next_one = process(tmp_path)
    next_one.say(batch)

    assert next_one.answers() == ["taken"]
    assert ids(tmp_path) == [event.id for event in batch]


def test_what_another_wrote_and_may_not_be_on_the_disk_is_brought_there_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = some(3)
    dying = process(tmp_path, prelude=DIES_BEFORE_THE_FSYNC)
    dying.say(batch)
    dying.ended()
    accept_and_expand: list[str] = []
    sync_data = callbacks.disk.sync_data

    def watched(opened: int) -> None:
        accept_and_expand.append(Path(f"/proc/self/fd/{opened}").readlink().name)
        sync_data(opened)

    monkeypatch.setattr(callbacks.disk, "sync_data", watched)
    writer = Writer(tmp_path, max_bytes=1 << 20)
    writer.write(batch)
    assert accept_and_expand == [of_folder(tmp_path)[0].name], "though there was nothing to write"
    writer.write(batch)
    assert len(accept_and_expand) == 1


@pytest.mark.parametrize("left", [b"\0" * 5000, b'{"kind":"report","id":"abc', b"\0\n", b"x" * (3 << 20)])
def test_what_a_crash_of_the_machine_left_at_the_end_is_cut_off(tmp_path: Path, left: bytes) -> None:
    given = some(3)
    Writer(tmp_path, max_bytes=8 << 20).write(given[:2])
    (path,) = of_folder(tmp_path)
    with path.open("ab") as file:
        file.write(left)

    Writer(tmp_path, max_bytes=8 << 20).write(given)

    assert ids(tmp_path) == [event.id for event in given]


def test_a_line_with_a_hole_does_not_count_as_kept(tmp_path: Path) -> None:
    given = some(3)
    Writer(tmp_path, max_bytes=1 << 20).write(given)
    (path,) = of_folder(tmp_path)
    hole = len(given[0].to_json()) + 1 + 60
    with path.open("r+b") as file:
        file.seek(hole)
        file.write(b"\0" * 20)

    Writer(tmp_path, max_bytes=1 << 20).write(given)

    assert lines(tmp_path)[3:] == [given[1].to_json()]


def test_a_full_disk_leaves_nothing_half_written_and_all_events_wait(disk: Path) -> None:
    small, large = some(2), [samples.reply("x" * 400_000) for _ in range(5)]
    files = EventFiles.from_environ({"CALLBACKS_JSONL_DIR": str(disk)})
    with files.open():
        files.write(small)
        (path,) = of_folder(disk)
        before = path.read_bytes()
        with ballast(disk) as make_room:
            with pytest.raises(Pause, match=r"disk: No space left on device$") as pause:
                files.write(large)
            assert pause.value.__cause__ is None
            assert pause.value.after_seconds > 0
            assert path.read_bytes() == before
            files.write(small)  # which are there
            make_room()
            files.write(large)

    assert ids(disk) == [event.id for event in [*small, *large]]


def test_a_full_disk_keeps_packing_from_nothing_but_packing(disk: Path) -> None:
    given = [samples.reply(os.urandom(1_000_000).hex()) for _ in range(3)]
    writer = Writer(disk, max_bytes=1024)
    for event in given:
        writer.write([event])
    writer.close()
    with ballast(disk):
        with pytest.raises(OSError, match="No space left"):
            GzipWorker(disk).compress_closed()
        assert [path.suffix for path in of_folder(disk)] == [".jsonl"] * 3
        assert not list(disk.glob("*.part"))
    GzipWorker(disk).compress_closed()

    assert [path.suffix for path in of_folder(disk)] == [".gz", ".gz", ".jsonl"]
    assert ids(disk) == [event.id for event in given]


def test_a_disk_that_fails_at_the_fsync_has_the_lines_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = some(4)
    files = EventFiles.from_environ({"CALLBACKS_JSONL_DIR": str(tmp_path)})
    files.write(given[:1])

    def fail(_opened: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(callbacks.disk, "sync_data", fail)
        with pytest.raises(Pause, match="Input/output error"):
            files.write(given[1:])
    assert ids(tmp_path) == [given[0].id], "what may not be on the disk is not known as kept"
    files.write(given[1:])

    assert ids(tmp_path) == [event.id for event in given]


def test_a_process_that_hangs_with_the_lock_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_LOCK_SECONDS", 0.05)
    files = EventFiles.from_environ({"CALLBACKS_JSONL_DIR": str(tmp_path)})
    given = some(1)
    with locked(tmp_path / ".lock"), pytest.raises(Pause, match="another process has held the lock"):
        files.write(given)
    assert of_folder(tmp_path) == []

    files.write(given)
    assert ids(tmp_path) == [given[0].id]


def test_one_process_packs_at_a_time(tmp_path: Path) -> None:
    for event in some(3):
        Writer(tmp_path, max_bytes=1024).write([event])
    with locked(tmp_path / ".gzip-lock"):
        GzipWorker(tmp_path).compress_closed()
        assert {path.suffix for path in of_folder(tmp_path)} == {".jsonl"}
    GzipWorker(tmp_path).compress_closed()
    assert [path.suffix for path in of_folder(tmp_path)] == [".gz", ".gz", ".jsonl"]


def test_a_folder_that_can_no_longer_be_made_has_events_wait(tmp_path: Path) -> None:
    files = EventFiles.from_environ({"CALLBACKS_JSONL_DIR": str(tmp_path / "file" / "below")})
    (tmp_path / "file").touch()
    with pytest.raises(Pause, match="below: Not a directory"):
        files.write(some(1))


@pytest.fixture
def harness(redis_server: RedisServer) -> Iterator[Harness]:
    with open_harness(redis_server.url, jsonl) as made:
        yield made


@pytest.mark.parametrize("processes", [1, 3])
def test_workers_that_are_killed_again_and_again_write_each_event_once(
    harness: Harness, tmp_path: Path, processes: int
) -> None:
    directory = tmp_path / "events"
    environment = {
        "CALLBACKS_HANDLERS": "workers.handlers.jsonl.handler",
        "CALLBACKS_JSONL_DIR": str(directory),
        "CALLBACKS_JSONL_MAX_BYTES": "200000",
        "CALLBACKS_JSONL_GZIP": "true",
    }
    kept = [*statuses([str(number) for number in range(1500)], bundle=10), reply("r-1", text="line\u2028break\0")]
    for callback in kept:
        harness.accept(callback)
    harness.expand()
    arguments = ("deliver", "--handler", "jsonl", "--processes", str(processes))

    def size() -> int:
        return sum(path.stat().st_size for path in of_folder(directory)) if directory.exists() else 0

    with ExitStack() as stack:
        for number in range(MAX_DEATHS - 1):  # one more, and an event at which each was killed is a dead letter
            command = Command(harness, tmp_path / f"log-{number}", *arguments, **environment)
            stack.callback(command.end)
            before = size()
            until(lambda before=before: size() > before or delivered(harness) == 1501, "a line more")  # type: ignore[misc]
            command.kill()
        last = Command(harness, tmp_path / "log", *arguments, **environment)
        stack.callback(last.end)
        until(lambda: delivered(harness) == 1501, "all is delivered")
        assert last.stop() == 0

    assert Counter(Counter(ids(directory)).values()) == {1: 1501}
    assert harness.connection.exists(keys.dead("jsonl")) == 0


def delivered(harness: Harness) -> int:
    return next(one.delivered for one in harness.audit().handlers if one.handler == "jsonl")


def test_a_file_that_cannot_be_packed_keeps_no_other_waiting_and_the_packer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"events-2026-01-0{day}T000000.000Z.jsonl" for day in (1, 2)]
    for name in names:
        (tmp_path / name).write_text("{}\n")
        (tmp_path / name).chmod(0o440)  # as one that is closed
    pack, calls = GzipWorker._compress, [0]

    def fail_at_the_first(self: GzipWorker, path: Path) -> None:
        calls[0] += 1
        if path.name == names[0] and calls[0] < 5:
            raise ValueError(path)
        pack(self, path)

    def wanted() -> bool:
        packer.notify()
        return (tmp_path / f"{names[0]}.gz").exists()

    monkeypatch.setattr(GzipWorker, "_compress", fail_at_the_first)
    packer = GzipWorker(tmp_path)
    packer.start()
    try:
        until((tmp_path / f"{names[1]}.gz").exists, "the other is packed")
        until(wanted, "and then this one")
    finally:
        packer.stop()

    lines = [record for record in caplog.records if "action=gzip_failed" in record.getMessage()]
    assert ["traceback=" in record.getMessage() for record in lines] == [True], "once, with its traceback"
