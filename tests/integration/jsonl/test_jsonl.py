"""The handler `jsonl`: one line for each event, once, in files that are begun anew by size and by day, and packed."""

import gzip
import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from callbacks import Event, samples
from shared import settings
from tests.integration import handler_process
from tests.integration.handler_process import Process, lines, of_folder, written
from tests.web_process import until
from workers.handlers.jsonl import folder
from workers.handlers.jsonl.gzip_worker import GzipWorker
from workers.handlers.jsonl.handler import EventFiles
from workers.handlers.jsonl.recent_ids import RecentIds
from workers.handlers.jsonl.writer import Writer


def keep(directory: Path, *events: Event, **options: str) -> None:
    """Keep events as a worker does that is started for them and then stopped."""
    files = EventFiles.from_environ({"CALLBACKS_JSONL_DIR": str(directory), **options})
    with files.open():
        files.write(events)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "events"


def test_each_event_is_one_line_that_any_reader_of_json_lines_understands(directory: Path) -> None:
    given = samples.named()

    keep(directory, *given.values())

    (path,) = of_folder(directory)
    assert path.read_text().splitlines() == [event.to_json() for event in given.values()]
    with path.open(encoding="utf-8") as read:
        assert [json.loads(line)["id"] for line in read] == [event.id for event in given.values()]
    assert {line["kind"] for line in written(directory)} == {"report", "reply"}
    assert handler_process.mode(path) == 0o640


def test_an_event_that_comes_twice_has_one_line(directory: Path) -> None:
    first, second, third = samples.report(), samples.reply(), samples.report()

    writer = Writer(directory, max_bytes=1 << 20)
    writer.write([first, second, first])
    writer.write([second, third])
    keep(directory, first, second, third)  # another process
    writer.write([third])

    assert [line["id"] for line in written(directory)] == [first.id, second.id, third.id]


def test_what_stands_in_closed_and_packed_files_is_known_too(directory: Path) -> None:
    given = [samples.report() for _ in range(30)]
    for event in given:
        keep(directory, event, CALLBACKS_JSONL_MAX_BYTES="1024")
    GzipWorker(directory).compress_closed()
    assert {path.suffix for path in of_folder(directory)[:-1]} == {".gz"}

    keep(directory, *given)

    assert [line["id"] for line in written(directory)] == [event.id for event in given]


def test_a_file_is_closed_before_it_grows_too_large_and_then_only_read(directory: Path) -> None:
    given = [samples.report() for _ in range(100)]
    long = samples.reply("x" * 20_000)

    for first in range(0, 100, 25):
        keep(directory, *given[first : first + 25], CALLBACKS_JSONL_MAX_BYTES="10000")
    keep(directory, long, samples.report(), CALLBACKS_JSONL_MAX_BYTES="10000")

    *closed, newest = of_folder(directory)
    sizes = [path.stat().st_size for path in closed]
    assert len(closed) > 5
    assert [size for size in sizes if size > 10_000] == [len(long.to_json()) + 1], "a longer line has its own file"
    assert min(sizes[:-2]) > 8_000, "files are filled"
    assert {handler_process.mode(path) for path in closed} == {0o440}
    assert handler_process.mode(newest) == 0o640
    assert [line["id"] for line in written(directory)][:100] == [event.id for event in given]


def test_a_new_day_has_a_new_file_by_utc(directory: Path) -> None:
    moment = datetime(2026, 11, 23, 23, 59, 59, 999_000, tzinfo=UTC)
    writer = Writer(directory, max_bytes=1 << 20, now=lambda: moment)
    given = [samples.report() for _ in range(4)]

    writer.write(given[:2])
    moment += timedelta(milliseconds=1)
    writer.write(given[:2])
    assert [path.name for path in of_folder(directory)] == ["events-2026-11-23T235959.999Z.jsonl"], (
        "nothing new to write"
    )
    writer.write(given)

    assert [path.name for path in of_folder(directory)] == [
        "events-2026-11-23T235959.999Z.jsonl",
        "events-2026-11-24T000000.000Z.jsonl",
    ]
    assert [line["id"] for line in written(directory)] == [event.id for event in given]


def test_a_clock_that_is_set_back_makes_no_older_file_and_no_name_twice(directory: Path) -> None:
    moment = datetime(2026, 11, 23, 12, tzinfo=UTC)
    writer = Writer(directory, max_bytes=1024, now=lambda: moment)
    given = [samples.report() for _ in range(6)]

    for event in given:
        writer.write([event])
        moment -= timedelta(days=1)

    names = [path.name for path in of_folder(directory)]
    assert names[:2] == ["events-2026-11-23T120000.000Z.jsonl", "events-2026-11-23T120000.001Z.jsonl"]
    assert [line["id"] for line in written(directory)] == [event.id for event in given]


def test_closed_files_are_packed_and_what_a_packer_that_died_left_is_cleared(directory: Path) -> None:
    given = [samples.report() for _ in range(40)]
    for event in given[:30]:
        keep(directory, event, CALLBACKS_JSONL_MAX_BYTES="4096")
    *closed, newest = of_folder(directory)
    left = directory / "events-2026-01-01T000000.000Z.jsonl.gz.part"
    left.write_bytes(gzip.compress(b"x" * 1000)[:50])
    # It died between giving the packed one its name and removing the other.
    closed[1].with_name(closed[1].name + ".gz").write_bytes(gzip.compress(closed[1].read_bytes()))
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in closed}

    for event in given[30:]:
        keep(directory, event, CALLBACKS_JSONL_MAX_BYTES="4096", CALLBACKS_JSONL_GZIP="true")
    GzipWorker(directory).compress_closed()

    assert not left.exists()
    for path in closed:
        packed = path.with_name(path.name + ".gz")
        assert not path.exists()
        assert (gzip.decompress(packed.read_bytes()), packed.stat().st_mtime_ns) == before[path.name]
        assert handler_process.mode(packed) == 0o440
    assert [path.suffix for path in of_folder(directory)[-1:]] == [".jsonl"]
    assert [line["id"] for line in written(directory)] == [event.id for event in given]
    assert newest.name.startswith("events-")


def test_packing_leaves_alone_what_others_have_in_the_folder(directory: Path) -> None:
    directory.mkdir(parents=True)
    closed = directory / "events-2026-01-02T000000.000Z.jsonl"
    closed.write_text("{}\n")
    closed.chmod(0o440)
    theirs = directory / "events-of-the-party.part"
    theirs.write_text("somebody's")
    (directory / "events-2026-01-01T000000.000Z.jsonl.part").mkdir()
    os.mkfifo(directory / "events-2026-01-01T000000.001Z.jsonl", 0o440)
    (directory / "events-2026-01-01T000000.002Z.jsonl").symlink_to(theirs.name)
    others = set(directory.iterdir()) - {closed}

    GzipWorker(directory).compress_closed()

    assert others <= set(directory.iterdir())
    assert theirs.read_text() == "somebody's"
    assert not closed.exists()
    assert closed.with_name(closed.name + ".gz").exists()


def test_a_worker_packs_what_it_closes_while_it_runs(directory: Path) -> None:
    writer = Process(
        "workers.handlers.jsonl.handler",
        "jsonl",
        CALLBACKS_JSONL_DIR=str(directory),
        CALLBACKS_JSONL_MAX_BYTES="1024",
        CALLBACKS_JSONL_GZIP="true",
    )
    given = [samples.report() for _ in range(5)]
    writer.say(*([event] for event in given))
    assert [writer.answer() for _ in given] == ["taken"] * 5

    until(lambda: len([path for path in of_folder(directory) if path.suffix == ".gz"]) == 4)
    until(lambda: len(of_folder(directory)) == 5)
    assert writer.answers() == []
    assert [line["id"] for line in written(directory)] == [event.id for event in given]


def test_several_processes_write_whole_lines_each_event_once(directory: Path) -> None:
    chance = random.Random(1)
    given: list[Event] = [samples.report() for _ in range(400)]
    environment = {"CALLBACKS_JSONL_DIR": str(directory), "CALLBACKS_JSONL_MAX_BYTES": "50000"}
    several = [
        Process("workers.handlers.jsonl.handler", "jsonl", CALLBACKS_JSONL_GZIP="true", **environment) for _ in range(4)
    ]
    for process in several:
        own = chance.sample(given, len(given))  # everybody has every event, in an order of its own
        process.say(*(own[first : first + 16] for first in range(0, len(own), 16)))

    assert [set(process.answers()) for process in several] == [{"taken"}] * 4
    found = written(directory)
    assert sorted(line["id"] for line in found) == sorted(event.id for event in given)
    assert len(of_folder(directory)) > 5
    expected = {event.id: event.to_json() for event in given}
    assert all(line == expected[json.loads(line)["id"]] for line in lines(directory))


def test_files_may_be_moved_away_and_even_the_folder(directory: Path, tmp_path: Path) -> None:
    writer = Writer(directory, max_bytes=1 << 20)
    given = [samples.report() for _ in range(4)]
    writer.write(given[:1])
    of_folder(directory)[0].rename(tmp_path / "moved")
    writer.write(given[:2])
    assert [line["id"] for line in written(directory)] == [given[1].id]

    of_folder(directory)[0].unlink()
    writer.write(given[2:3])
    directory.rename(tmp_path / "moved folder")
    writer.write(given[3:])

    assert [line["id"] for line in written(directory)] == [given[3].id]
    assert [line["id"] for line in written(tmp_path / "moved folder")] == [given[2].id]


def test_a_process_uses_the_newest_file_even_if_another_started_it(directory: Path) -> None:
    one, other = Writer(directory, max_bytes=3000), Writer(directory, max_bytes=3000)
    given = [samples.report() for _ in range(40)]
    for first in range(0, 40, 2):
        one.write(given[first : first + 1])
        other.write(given[max(0, first - 5) : first + 2])

    assert [line["id"] for line in written(directory)] == [event.id for event in given]
    assert [handler_process.mode(path) for path in of_folder(directory)][-2:] == [0o440, 0o640]


def test_what_is_remembered_is_bounded_and_reaches_far_enough_back(directory: Path) -> None:
    known = RecentIds(max_ids=10)
    known.add(str(number) for number in range(1000))
    assert all(str(number) in known for number in range(990, 1000))
    assert sum(str(number) in known for number in range(1000)) < 20

    given = [samples.report() for _ in range(30)]
    for first in range(0, 30, 5):
        keep(directory, *given[first : first + 5], CALLBACKS_JSONL_MAX_BYTES="1024")
    of_files = RecentIds(max_ids=10)
    of_files.load(reversed(folder.list_files(directory)))
    assert all(event.id in of_files for event in given[20:])
    assert sum(event.id in of_files for event in given) < 20


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CALLBACKS_JSONL_DIR", __file__, "is a file, not a folder"),
        ("CALLBACKS_JSONL_DIR", "x" * 300, "cannot be used: File name too long"),
        ("CALLBACKS_JSONL_MAX_BYTES", "64M", "must be a whole number from 1024 to 1073741824, not '64M'"),
        ("CALLBACKS_JSONL_MAX_BYTES", "1023", "must be a whole number"),
        ("CALLBACKS_JSONL_MAX_BYTES", "1073741825", "must be a whole number"),
        ("CALLBACKS_JSONL_GZIP", "yes", "must be true or false, not 'yes'"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{variable}: .*{words}"):
        EventFiles.from_environ({variable: value})


def test_the_defaults_are_those_of_the_table() -> None:
    table: dict[str, Any] = {row.variable: row.default for row in settings.table_rows()}
    files = EventFiles.from_environ({"CALLBACKS_JSONL_DIR": " ", "CALLBACKS_JSONL_MAX_BYTES": ""})
    assert files.directory == Path(table["CALLBACKS_JSONL_DIR"])
    assert files.max_bytes == int(table["CALLBACKS_JSONL_MAX_BYTES"]) == 64 << 20
    assert files.packed is (table["CALLBACKS_JSONL_GZIP"] == "true")
