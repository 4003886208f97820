"""The handler `log`: writes each event as one JSON line to standard output or to a file.

    CALLBACKS_LOG_FILE      the file to append to; unset or empty: standard output
    CALLBACKS_LOG_NUMBERS   masked (default): phone numbers look like 35679*****123; full: numbers as received

The lines contain the texts of replies: store them where such texts are allowed. If a write fails half-way, the event
is written again, so count distinct `id`s, not lines.
"""

import fcntl
import functools
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from callbacks import Event, ReplyEvent, ReportEvent, disk, handler
from workers.handlers.mask import mask_numbers

# The lines hold personal data: the service's group may read them, others may not.
_FILE_MODE: Final = 0o640


class LineWriter:
    """Writes events as lines to `path` (None: standard output), with phone numbers masked or in full."""

    def __init__(self, path: Path | None, *, masked: bool) -> None:
        self.path = path
        self.masked = masked

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Return the writer that the two variables describe. Raise ValueError, which names the wrong variable."""
        numbers = environ.get("CALLBACKS_LOG_NUMBERS", "").strip() or "masked"
        if numbers not in ("masked", "full"):
            raise ValueError(f"CALLBACKS_LOG_NUMBERS: must be masked or full, not {numbers!r}")
        name = environ.get("CALLBACKS_LOG_FILE", "").strip()
        path = Path(name) if name else None
        try:
            is_folder = path is not None and path.is_dir()
        except OSError as exc:
            raise ValueError(f"CALLBACKS_LOG_FILE: {name!r} cannot be used: {exc.strerror}") from None
        if is_folder:
            raise ValueError(f"CALLBACKS_LOG_FILE: {name!r} is a folder, not a file")
        if path is not None and (problem := _find_problem(path)):
            raise ValueError(f"CALLBACKS_LOG_FILE: {problem}")
        return cls(path, masked=numbers == "masked")

    def write(self, events: Sequence[Event]) -> None:
        """Write the events' lines in one piece, even if other processes write to the same file. Raise OSError."""
        lines = (mask_numbers(event) if self.masked else event for event in events)
        data = "".join(event.to_json() + "\n" for event in lines).encode()
        if self.path is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            _append(self.path, data)


def _find_problem(path: Path) -> str:
    """Return why the file cannot be opened, "" if it can; a missing one is not created."""
    try:
        # A pipe without a reader must not be waited for.
        os.close(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK))
    except FileNotFoundError:
        return disk.find_write_problem(path.parent)
    except OSError as exc:
        return f"{path} cannot be written: {exc.strerror}"
    return ""


def _append(path: Path, data: bytes) -> None:
    """Append `data` under a lock on the file. Create the file and its folders if they are missing."""
    try:
        target = _open(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = _open(path)
    try:
        if stat.S_ISREG(os.fstat(target).st_mode):
            _lock_current(path, target)
            size = os.fstat(target).st_size
            if size and os.pread(target, 1, size - 1) != b"\n":
                data = b"\n" + data  # leave the incomplete line of a killed process or a full disk
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
    finally:
        os.close(target)


def _lock_current(path: Path, target: int) -> None:
    """Lock the file until `target` is closed, a descriptor of it. If another file has its name by then, it is of that.

    `callbacks forget` replaces the file under the lock.
    """
    while True:
        fcntl.flock(target, fcntl.LOCK_EX)
        current = _open(path)
        if os.path.sameopenfile(current, target):
            os.close(current)
            return
        os.dup2(current, target, inheritable=False)
        os.close(current)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)


# Read at the first event, not on import: processes that do not run this handler import the module too.
@functools.cache
def _writer() -> LineWriter:
    return LineWriter.from_environ(os.environ)


@handler(ReportEvent, ReplyEvent, name="log", batch=True, settings=_writer)
def log(events: Sequence[Event]) -> None:
    """Write each event of the batch as one line."""
    _writer().write(events)
