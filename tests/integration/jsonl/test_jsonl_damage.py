"""A file that the disk has damaged costs no event: what it holds is not known, and what comes is written beside it."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from callbacks import samples
from workers.handlers.jsonl.writer import Writer


def closed_files(directory: Path) -> list[Path]:
    """Have some files there, of which all but one are closed."""
    writer = Writer(directory, max_bytes=1)
    writer.write([samples.report() for _ in range(3)])
    writer.close()
    return sorted(directory.glob("events-*"))[:-1]


def with_a_broken_stream(path: Path) -> None:
    packed = bytearray(gzip.compress(path.read_bytes()))
    packed[10] |= 0b110  # behind the head of ten bytes: a kind of block that there is not
    path.with_name(path.name + ".gz").write_bytes(packed)
    path.unlink()


def with_a_broken_id(path: Path) -> None:
    data = path.read_bytes()
    path.chmod(0o640)
    path.write_bytes(data.replace(b'"id":"', b'"id":"\xff', 1))
    path.chmod(0o440)


@pytest.mark.parametrize("damaged", [with_a_broken_stream, with_a_broken_id])
def test_events_are_written_beside_it(tmp_path: Path, damaged: Callable[[Path], None]) -> None:
    damaged(closed_files(tmp_path)[-1])
    event = samples.report()

    Writer(tmp_path, max_bytes=1 << 20).write([event])

    assert any(event.id.encode() in path.read_bytes() for path in tmp_path.glob("events-*.jsonl"))


@pytest.mark.parametrize(
    "name",
    [
        "events-2999-99-99T999999.999Z.jsonl",
        "events-2999-02-30T000000.000Z.jsonl",
        "events-9999-12-31T235959.999Z.jsonl",
        "events-0000-00-00T000000.000Z.jsonl.gz",
        "events-\u0662\u0669\u0669\u0669-01-01T000000.000Z.jsonl",
    ],
)
def test_a_file_whose_name_holds_no_time_is_not_ours(tmp_path: Path, name: str) -> None:
    foreign = tmp_path / name
    foreign.write_bytes(b"")
    foreign.chmod(0o440)
    event = samples.report()

    Writer(tmp_path, max_bytes=1 << 20).write([event])

    assert foreign.read_bytes() == b""
    (written,) = (path for path in tmp_path.glob("events-*.jsonl") if path != foreign)
    assert event.id.encode() in written.read_bytes()


def test_a_file_of_a_clock_that_was_ahead_is_still_ours(tmp_path: Path) -> None:
    ahead = tmp_path / "events-2999-12-31T235959.999Z.jsonl"
    ahead.write_bytes(b"")
    ahead.chmod(0o440)

    Writer(tmp_path, max_bytes=1 << 20).write([samples.report()])

    assert (tmp_path / "events-3000-01-01T000000.000Z.jsonl").exists()
