"""Files of `jsonl` are removed some days after their last line, and those who write start others."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from callbacks import samples
from tests.integration.handler_process import of_folder, written
from workers.handlers.jsonl import retention
from workers.handlers.jsonl.writer import Writer

NOW = datetime.now(UTC)
BEFORE = NOW - timedelta(days=30)


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def keep(directory: Path, *days: float) -> list[str]:
    """Write an event on each of these days; return their ids."""
    moment = NOW
    writer = Writer(directory, max_bytes=1 << 20, now=lambda: moment)
    ids = []
    for day in days:
        moment = days_ago(day)
        event = samples.report()
        writer.write([event])
        ids.append(event.id)
    writer.close()
    return ids


def test_a_file_goes_when_the_next_one_is_old_too_whatever_its_own_time_says(tmp_path: Path) -> None:
    ids = keep(tmp_path, 50, 40, 31, 29, 1)
    first, *_ = of_folder(tmp_path)
    first.with_name(first.name + ".gz").write_bytes(b"packed")

    # The third was open until the fourth began, 29 days ago.
    assert retention.find_oldest_end(tmp_path) == days_ago(40).replace(
        microsecond=days_ago(40).microsecond // 1000 * 1000
    )
    assert retention.remove_old(tmp_path, BEFORE) == 3

    assert [line["id"] for line in written(tmp_path)] == ids[2:]
    assert retention.remove_old(tmp_path, BEFORE) == 0


def test_the_last_file_goes_when_nothing_was_added_for_that_long_and_the_writer_starts_another(tmp_path: Path) -> None:
    writer = Writer(tmp_path, max_bytes=1 << 20)
    writer.write([samples.report()])
    (path,) = of_folder(tmp_path)
    assert retention.remove_old(tmp_path, BEFORE) == 0
    os.utime(path, (days_ago(31).timestamp(),) * 2)

    assert retention.remove_old(tmp_path, BEFORE) == 1
    event = samples.report()
    writer.write([event])
    writer.close()

    assert [line["id"] for line in written(tmp_path)] == [event.id]


def test_what_is_not_ours_stays_and_no_folder_is_made(tmp_path: Path) -> None:
    strange = tmp_path / "events-2001-01-01.jsonl"
    strange.write_text("mine")
    os.utime(strange, (0, 0))

    assert retention.remove_old(tmp_path, BEFORE) == 0
    assert retention.find_oldest_end(tmp_path) is None
    assert retention.find_oldest_end(tmp_path / "missing") is None
    assert retention.remove_old(tmp_path / "missing", BEFORE) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", strange.name]
