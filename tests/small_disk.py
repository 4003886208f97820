"""A small file system of a test's own, which can be filled."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from shared.disk import allocate

_DISK_BYTES: Final = 160 << 20
# What the service writes in a few seconds.
_LEFT_BYTES: Final = 1 << 20


@contextmanager
def mounted_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of _DISK_BYTES on `folder`; skip the test where that is not permitted."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def ballast(disk: Path) -> Iterator[Callable[[], None]]:
    """Leave little room on the disk, until what is given is called."""
    file = disk / "ballast"
    with file.open("wb") as opened:
        allocate(opened.fileno(), free_bytes(disk) - _LEFT_BYTES)
    try:
        yield file.unlink
    finally:
        file.unlink(missing_ok=True)


def free_bytes(disk: Path) -> int:
    left = os.statvfs(disk)
    return left.f_bavail * left.f_frsize
