"""A file that the disk has damaged costs no event: what it holds is not known, and what comes is written beside it."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from workers import samples
from workers.handlers.jsonl.writing import Writer


def closed_files(place: Path) -> list[Path]:
    """Have some files there, of which all but one are closed."""
    writer = Writer(place, max_bytes=1)
    writer.write([samples.report() for _ in range(3)])
    writer.close()
    return sorted(place.glob("events-*"))[:-1]


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
