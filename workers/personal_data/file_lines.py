"""Files without the lines that mention a number: written to a new file, which takes the old one's name in one step.

A kill leaves the old file whole, and at most a file with another name, which is removed or overwritten by the next run.
"""

import gzip
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

from callbacks import disk
from shared.number_search import NumberSearch

_UNFINISHED: Final = ".part"
_GZIP_SUFFIX: Final = ".gz"


def find_lines(path: Path, search: NumberSearch) -> Iterator[str]:
    """Yield the lines that mention a number, of a plain or a compressed file. Raise OSError."""
    with _open(path) as lines:
        for line in lines:
            if search.find_in_bytes(line):
                yield line.decode(errors="replace").rstrip("\n")


def remove_lines(
    path: Path, search: NumberSearch, *, before_rename: Callable[[Path], None] = lambda _path: None
) -> int:
    """Remove the lines that mention a number; return how many. `before_rename` gets the new file. Raise OSError.

    Mode and times stay. The caller sees to it that nobody writes to the file meanwhile.
    """
    unfinished = path.with_name(path.name + _UNFINISHED)
    removed = 0
    try:
        with _open(path) as lines, os.fdopen(os.open(unfinished, _NEW, 0o600), "wb") as target:
            with _packed(path, target) as written:
                for line in lines:
                    if search.find_in_bytes(line):
                        removed += 1
                    else:
                        written.write(line)
            target.flush()
            shutil.copystat(path, unfinished)
            if os.geteuid() == 0:
                owner = path.stat()
                os.chown(unfinished, owner.st_uid, owner.st_gid)
            disk.sync_file(target.fileno())
        if removed:
            before_rename(unfinished)
            unfinished.replace(path)
            disk.sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return removed


_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        with cast("BinaryIO", gzip.open(path)) if path.suffix == _GZIP_SUFFIX else path.open("rb") as lines:
            yield lines
    except (EOFError, zlib.error) as exc:
        raise gzip.BadGzipFile(f"the file is damaged: {exc}") from exc


@contextmanager
def _packed(path: Path, target: BinaryIO) -> Iterator[BinaryIO]:
    if path.suffix != _GZIP_SUFFIX:
        yield target
        return
    with gzip.GzipFile(path.stem, "wb", fileobj=target, mtime=path.stat().st_mtime) as packing:
        yield cast("BinaryIO", packing)
