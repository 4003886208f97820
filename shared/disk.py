"""What the disk is asked for, on Linux and on macOS, which lacks some of it under these names.

On macOS `fsync` leaves data in the disk's own cache, from which a power failure can lose it: F_FULLFSYNC does not.
"""

import errno
import fcntl
import os
import tempfile
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 1 << 16
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def allocate(descriptor: int, size_bytes: int) -> None:
    """Reserve room on the disk for the first `size_bytes` of an empty file, which become zeros. Raise OSError."""
    reserve = getattr(os, "posix_fallocate", None)
    if reserve is not None:
        reserve(descriptor, 0, size_bytes)
        return
    written = 0
    while written < size_bytes:
        written += os.pwrite(descriptor, bytes(min(_BLOCK_BYTES, size_bytes - written)), written)


def sync_data(descriptor: int) -> None:
    """Bring a file's content and size to the disk. Raise OSError."""
    if not _sync_fully(descriptor):
        getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_file(descriptor: int) -> None:
    """Bring a file's content, size, mode and times to the disk. Raise OSError."""
    if not _sync_fully(descriptor):
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk. Raise OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(opened)
    finally:
        os.close(opened)


def find_write_problem(folder: Path) -> str:
    """Return why no file can be written in the folder, or in the nearest one that exists above it; "" if one can.

    It is tried, as permissions say nothing of a read-only file system, and nothing to root. No file stays. A full disk
    is no such reason: it may have room by the time something is written.
    """
    try:
        nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not nearest.is_dir():
            return f"{folder} cannot be written: {nearest} is not a folder"
        with tempfile.TemporaryFile(dir=nearest):
            return ""
    except OSError as exc:
        return "" if exc.errno in _FULL else f"{folder} cannot be written: {exc.strerror or exc}"


def _sync_fully(descriptor: int) -> bool:
    """Have the disk empty its cache too, where the system has that; return whether it has."""
    command = getattr(fcntl, "F_FULLFSYNC", None)
    if command is None:
        return False
    try:
        fcntl.fcntl(descriptor, command)
    except OSError:  # some file systems, such as a network share, know only fsync
        return False
    return True
