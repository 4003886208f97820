"""Folders that one process at a time may work in."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shared.errors import CallbacksError

MARKER: Final = ".held"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder and hold it for this process; the lock ends with it. Raises CallbacksError if another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / MARKER).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise CallbacksError(f"another process works in {folder}") from exc
        yield
