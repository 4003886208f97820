"""The folder: the files' names, which is the newest, and whose turn it is to write.

    events-2026-11-23T191650.123Z.jsonl       begun at that time (UTC); the newest is written, by all processes in turn
    events-2026-11-22T000000.007Z.jsonl       closed: it may not be written any more (its mode says so), only read
    events-2026-11-21T000000.012Z.jsonl.gz    closed, and packed
    .lock                                     held by the process whose turn it is

A name is never given twice, so a file may be moved away as soon as it is closed. A file whose name
holds no time of the calendar, or one that leaves none for a newer file, is not ours: it is neither read nor written.
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

GZIP_SUFFIX: Final = ".gz"
_NAME: Final = re.compile(r"events-([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}\.[0-9]{3}Z)\.jsonl(\.gz)?")
_STAMP: Final = "%Y-%m-%dT%H%M%S.%f"
# People's own texts and numbers: the service's group may read them, others may not.
_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
_WRITE_BITS: Final = 0o222
# A turn is a write and an fsync: milliseconds, on a slow disk a second.
_LOCK_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.001


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Wait until nobody else writes there, and keep it so. Makes the folder. Raises OSError, TimeoutError after 30 s.

    The lock goes with the process, however that ends.
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
        os.close(lock)  # which gives the lock back


def list_files(folder: Path) -> list[Path]:
    """Give the files of ours, the oldest first."""
    with os.scandir(folder) as entries:
        return sorted((Path(entry.path) for entry in entries if _is_ours(entry.name)), key=start_stamp)


def start_stamp(path: Path) -> str:
    """Give when a file of ours was begun, as its name says; it sorts as the times do."""
    found = _NAME.fullmatch(path.name)
    return found[1] if found else ""


def day_stamp(moment: datetime) -> str:
    """Give the first letters of the stamp of every file that is begun on that day."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def create_file(folder: Path, moment: datetime, *, after: str) -> tuple[Path, int]:
    """Make a file, newer by its name than `after`, and give it open. Its name is on the disk when this returns."""
    while (name := _format_time(moment)) <= after:
        moment = max(moment, _parse_time(after)) + timedelta(milliseconds=1)  # the clock was set back, or we are quick
    path = folder / f"events-{name}.jsonl"
    opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    sync_folder(folder)
    return path, opened


def reopen_file(path: Path) -> int:
    """Open a file that is there, to go on with it."""
    opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    sync_folder(path.parent)  # who made it may have died before he did this
    return opened


def mark_closed(opened: int) -> None:
    """Say in the file's mode that nothing more comes."""
    os.fchmod(opened, os.fstat(opened).st_mode & 0o777 & ~_WRITE_BITS)


def is_closed(status: os.stat_result) -> bool:
    """Tell whether a file may not be written any more."""
    return not status.st_mode & _WRITE_BITS


def has_name(path: Path, opened: int) -> bool:
    """Tell whether the open file still has its name: it may have been moved away, or removed."""
    try:
        return os.path.samestat(path.stat(), os.fstat(opened))
    except FileNotFoundError:
        return False


def find_open_file(paths: Sequence[Path]) -> Path | None:
    """Give the last of these files, unless it is closed or has just been taken away."""
    try:
        return paths[-1] if paths and not is_closed(paths[-1].stat()) else None
    except FileNotFoundError:
        return None


def sync_folder(folder: Path) -> None:
    """Have the folder's names on the disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


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
    # Each time anew: a lock that was inherited from a parent would be held by both.
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
