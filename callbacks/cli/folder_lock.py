"""A lock on a folder that one process at a time may use."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from shared.errors import CallbacksError

LOCK_FILE: Final = ".lock"


class CannotWrite(CallbacksError):
    """A file or folder of the locked folder cannot be written."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be written ({error.strerror}): make it writable, or name another --folder")


@contextmanager
def lock(folder: Path, *, owner: str) -> Iterator[None]:
    """Create the folder if needed, and lock it until the context or the process ends.

    The folder belongs to the command that locked it first. Raise CallbacksError if that is not `owner`, or if another
    process has locked it; CannotWrite if the folder, or a file below it that the context uses, cannot be written.
    """
    with _open(folder) as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise CallbacksError(f"another process uses {folder}; stop it first") from exc
        lock_file.seek(0)
        first = lock_file.read()
        if first and first != owner:
            raise CallbacksError(f"{folder} belongs to `callbacks {first}`; name another --folder")
        if not first:
            lock_file.write(owner)
            lock_file.flush()
        try:
            yield
        except OSError as exc:
            path = Path(exc.filename) if isinstance(exc.filename, str) else None
            if path is None or not path.absolute().is_relative_to(folder.absolute()):
                raise
            raise CannotWrite(path, exc) from exc


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of the folder. Raise OSError if there is none."""
    with (folder / LOCK_FILE).open() as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _open(folder: Path) -> TextIOWrapper:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LOCK_FILE).open("a+")
    except OSError as exc:
        raise CannotWrite(folder, exc) from exc
