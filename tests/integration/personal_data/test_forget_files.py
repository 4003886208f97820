"""`forget` over the files of `jsonl` and `log` and the stream: lines and entries go, their neighbours stay."""

import gzip
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from callbacks import Event
from shared import connections
from shared.number_search import NumberSearch
from tests.redis_server import RedisServer, StartRedis
from tests.unit.example_events import reply, report
from workers.handlers import log
from workers.handlers.jsonl import folder
from workers.handlers.jsonl.gzip_worker import GzipWorker
from workers.handlers.jsonl.writer import Writer
from workers.handlers.stream.redis_stream import RedisStream
from workers.personal_data.jsonl_files import JsonlFiles
from workers.personal_data.log_files import LogFile
from workers.personal_data.stream_entries import StreamEntries

NUMBER = "35679444123"
SEARCH = NumberSearch.parse([NUMBER])


def both(index: int) -> list[Event]:
    """Return an event of the person and one of somebody else."""
    return [
        report(message_id=f"theirs-{index}", to=f"+{NUMBER}"),
        report(message_id=f"other-{index}", to="35679000123"),
    ]


def lines(directory: Path) -> list[str]:
    found: list[str] = []
    for path in folder.list_files(directory):
        data = path.read_bytes()
        found += (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a folder with a compressed file, a closed one and the open one, each with both events."""
    for index in range(3):
        with closing(Writer(tmp_path, max_bytes=1 << 20)) as writer:
            writer.write(both(index))
        if index < 2:
            (newest,) = [path for path in folder.list_files(tmp_path) if path.stat().st_mode & 0o200]
            opened = os.open(newest, os.O_RDONLY)
            folder.mark_closed(opened)
            os.close(opened)
        if index == 0:
            GzipWorker(tmp_path).compress_closed()
    return tmp_path


def test_files_of_jsonl_lose_those_lines_alone(directory: Path) -> None:
    files = JsonlFiles(directory, SEARCH)
    with closing(Writer(directory, max_bytes=1 << 20)) as writer:
        writer.write(both(3))

        assert (files.erase(dry_run=True).found, len(list(files.export()))) == (4, 4)
        assert len(lines(directory)) == 8
        result = files.erase(dry_run=False)

        assert (result.found, result.erased, result.left, result.why) == (4, 4, 0, "")
        assert len(lines(directory)) == 4
        assert NUMBER not in "".join(lines(directory))
        # The writer, which had the file open, continues in a new one and knows what the others hold.
        writer.write([*both(3)[1:], report(message_id="new")])
    assert len(lines(directory)) == 5
    assert len(folder.list_files(directory)) == 4
    assert not [path for path in directory.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("damage", ["short", "wrong", "none"])
def test_a_damaged_file_of_jsonl_is_named_and_the_others_are_rewritten(directory: Path, damage: str) -> None:
    packed = folder.list_files(directory)[0]
    packed.chmod(0o600)
    data = packed.read_bytes()
    # Cut off, with wrong bytes within, and without its header.
    packed.write_bytes({"short": data[:-20], "wrong": data[:20] + b"\xff" * 30 + data[50:], "none": data[20:]}[damage])

    files = JsonlFiles(directory, SEARCH)
    exported: list[str] = []
    with pytest.raises(OSError, match=packed.name):
        exported.extend(item.where for item in files.export())
    assert len(set(exported) - {str(packed)}) == 2
    result = files.erase(dry_run=False)

    assert result.erased >= 2
    assert not result.is_complete
    assert packed.name in result.why


def test_a_log_file_loses_those_lines_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    writer = log.LineWriter(path, masked=False)
    writer.write(both(0))
    path.chmod(0o640)
    opened = os.open(path, os.O_RDWR | os.O_APPEND)  # as a writer that waits for the lock has it

    result = LogFile(path, SEARCH, masked=False).erase(dry_run=False)

    assert (result.found, result.erased, result.left, result.why) == (1, 1, 0, "")
    log._lock_current(path, opened)
    assert os.path.sameopenfile(opened, os.open(path, os.O_RDONLY))
    os.close(opened)
    writer.write(both(1)[1:])
    text = path.read_text()
    assert (len(text.splitlines()), NUMBER in text) == (2, False)


def test_a_log_with_masked_numbers_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    log.LineWriter(path, masked=True).write(both(0))

    result = LogFile(path, SEARCH, masked=True).erase(dry_run=False)

    assert (result.found, result.is_complete) == (0, True)
    assert "masked" in result.why


def test_a_stream_loses_those_entries_and_keeps_its_groups(start_redis: StartRedis) -> None:
    server: RedisServer = start_redis()
    with server.client() as client:
        connection: Any = client
        stream = RedisStream(connection, "callbacks", max_entries=None)
        for index in range(3):
            stream.add([*both(index), reply(reply_message_id=f"r-{index}", message={"text": f"call {NUMBER}"})])
        connection.xgroup_create("callbacks", "crm", "0")
        ((_, taken),) = connection.xreadgroup("crm", "one", {"callbacks": ">"}, count=5)
        before = connection.xinfo_stream("callbacks")
        entries = StreamEntries(server.url, "callbacks", SEARCH)

        assert (entries.erase(dry_run=True).found, len(list(entries.export()))) == (6, 6)
        result = entries.erase(dry_run=False)

        assert (result.found, result.erased, result.why) == (6, 6, "")
        kept = connection.xrange("callbacks")
        assert ["other-" in fields["event"] for _, fields in kept] == [True] * 3
        pending = connection.xpending_range("callbacks", "crm", "-", "+", 10)
        assert [one["message_id"] for one in pending] == [entry for entry, _ in taken if entry in dict(kept)]
        assert {one["consumer"] for one in pending} == {"one"}
        ((_, rest),) = connection.xreadgroup("crm", "two", {"callbacks": ">"})
        assert [entry for entry, _ in rest] == [kept[-1][0]]
        after = connection.xinfo_stream("callbacks")
        assert after["last-generated-id"] == before["last-generated-id"]
        stream.add(both(9)[1:])
        assert connection.xlen("callbacks") == 4
        with connections.connect(server.url) as raw:
            assert NUMBER.encode() not in raw.dump("callbacks")
        assert connection.keys("*copy*") == []
