"""The folder: the names of the files, the newest file, and the lock for writing.

    events-2026-11-23T191650.123Z.jsonl       started at that time (UTC); all processes write to the newest in turn
    events-2026-11-22T000000.007Z.jsonl       closed: its mode allows reading only
    events-2026-11-21T000000.012Z.jsonl.gz    closed and compressed
    .lock                                     locked by the process that writes

A name is never used twice, so a file may be moved away as soon as it is closed. A file whose name has no valid time, or
a time that allows no later one, is not ours: it is neither read nor written.
"""

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import MAXYEAR, UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from callbacks import disk

GZIP_SUFFIX: Final = ".gz"
# Who compresses closed files, or rewrites them, holds a lock on it.
GZIP_LOCK: Final = ".gzip-lock"
_NAME: Final = re.compile(r"events-([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}\.[0-9]{3}Z)\.jsonl(\.gz)?")
_STAMP: Final = "%Y-%m-%dT%H%M%S.%f"
# The files hold personal data: the service's group may read them, others may not.
_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
_WRITE_BITS: Final = 0o222
# The lock is held for a write and an fsync: milliseconds, or a second on a slow disk.
_LOCK_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.001


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the folder's lock for writing; create the folder if it is missing. Raise OSError, TimeoutError after 30 s.

    The system releases the lock if the process dies.
    """
    try:
        lock = _open_lock(folder)
    except FileNotFoundError:
        folder.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
        lock = _open_lock(folder)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(lock):
            if time.monotonic() > deadline:
                raise TimeoutError(0, "another process has held the lock for 30 s")
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(lock)  # which releases the lock


def list_files(folder: Path) -> list[Path]:
    """Return our files, oldest first. Raise OSError."""
    with os.scandir(folder) as entries:
        return sorted((Path(entry.path) for entry in entries if _is_ours(entry.name)), key=start_stamp)


def start_stamp(path: Path) -> str:
    """Return the start time in a file's name; these texts sort as the times do. "" if the file is not ours."""
    found = _NAME.fullmatch(path.name)
    return found[1] if found else ""


def start_time(path: Path) -> datetime:
    """Return the start time in the name of one of our files."""
    return _parse_time(start_stamp(path))


def day_stamp(moment: datetime) -> str:
    """Return the first characters of the start stamp of each file of that day (UTC)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def create_file(folder: Path, moment: datetime, *, after: str) -> tuple[Path, int]:
    """Create a file with a later name than `after` and sync the name; return path and descriptor. Raise OSError."""
    while (name := _format_time(moment)) <= after:
        moment = max(moment, _parse_time(after)) + timedelta(
            milliseconds=1
        )  # the clock was set back, or two files start in a millisecond
    path = folder / f"events-{name}.jsonl"
    opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    disk.sync_folder(folder)
    return path, opened


def reopen_file(path: Path) -> int:
    """Return a descriptor that appends to an existing file; sync its name. Raise OSError."""
    opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    disk.sync_folder(path.parent)  # the process that created it may have died before its sync
    return opened


def mark_closed(opened: int) -> None:
    """Make the file read-only, which marks it as closed."""
    os.fchmod(opened, os.fstat(opened).st_mode & 0o777 & ~_WRITE_BITS)


def is_closed(status: os.stat_result) -> bool:
    """Return whether a file is read-only, that is closed."""
    return not status.st_mode & _WRITE_BITS


def has_name(path: Path, opened: int) -> bool:
    """Return whether `path` is still the open file: it may have been moved away or removed."""
    try:
        return os.path.samestat(path.stat(), os.fstat(opened))
    except FileNotFoundError:
        return False


def find_open_file(paths: Sequence[Path]) -> Path | None:
    """Return the last of these files, or None if it is closed or was just removed."""
    try:
        return paths[-1] if paths and not is_closed(paths[-1].stat()) else None
    except FileNotFoundError:
        return None


@lru_cache(maxsize=1 << 14)
def _is_ours(name: str) -> bool:
    found = _NAME.fullmatch(name)
    if found is None:
        return False
    try:
        return _parse_time(found[1]).year < MAXYEAR
    except ValueError:
        return False


def _open_lock(folder: Path) -> int:
    # Opened each time: a lock on a descriptor inherited from a parent would be held by both processes.
    return os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_STAMP)[:-3] + "Z"


def _parse_time(name: str) -> datetime:
    return datetime.strptime(name[:-1], _STAMP).replace(tzinfo=UTC)
