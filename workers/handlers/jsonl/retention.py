"""Removes files whose last line is some days old.

A file ends where the next one begins; the last one, when it was changed last. All of it happens under the lock of those
who write: one that had a removed file open starts another with its next event.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice, takewhile
from pathlib import Path
from typing import Final

from callbacks import disk
from workers.handlers.jsonl import folder

# Writers wait meanwhile: some milliseconds.
_FILES_PER_LOCK: Final = 20


def find_oldest_end(directory: Path) -> datetime | None:
    """Return when the oldest file got its last line, None if there is no file. Raise OSError."""
    if not directory.is_dir():
        return None
    paths = folder.list_files(directory)
    return _end(paths, 0) if paths else None


def remove_old(directory: Path, before: datetime) -> int:
    """Remove a few files that ended before then; return how many. Raise OSError."""
    if not directory.is_dir():
        return 0
    with folder.lock_folder(directory):
        paths = folder.list_files(directory)
        ended = takewhile(lambda position: _end(paths, position) < before, range(len(paths)))
        old = [paths[position] for position in islice(ended, _FILES_PER_LOCK)]
        for path in old:
            path.unlink(missing_ok=True)
        if old:
            disk.sync_folder(directory)
    return len(old)


def _end(paths: Sequence[Path], position: int) -> datetime:
    stamp = folder.start_stamp(paths[position])
    for later in paths[position + 1 :]:
        if folder.start_stamp(later) != stamp:  # not the same file, compressed
            return folder.start_time(later)
    try:
        return datetime.fromtimestamp(paths[position].stat().st_mtime, UTC)
    except FileNotFoundError:  # moved away
        return datetime.now(UTC)
