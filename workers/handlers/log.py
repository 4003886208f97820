"""The handler `log`: every event as one JSON line, on standard output or at the end of a file.

    CALLBACKS_LOG_FILE      where the lines go; standard output where it is empty or missing
    CALLBACKS_LOG_NUMBERS   masked (the default): 35679*****123 for a phone number; full: as it came

These lines are data that the user asked for, so a reply's text stands in them; point them where such texts may
be. An event is written again where its first write failed half-way: readers who count go by its `id`.
"""

import fcntl
import functools
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from callbacks import Event, ReplyEvent, ReportEvent, handler
from workers.handlers.mask import mask_event

# People's own files: the service's group may read them, others may not.
_FILE_MODE: Final = 0o640


class LineWriter:
    """Writes events as lines, to `path` (None: standard output), with numbers masked or not."""

    def __init__(self, path: Path | None, *, masked: bool) -> None:
        self.path = path
        self.masked = masked

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the two variables. Raises ValueError, which names the variable that is wrong."""
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
        return cls(path, masked=numbers == "masked")

    def write(self, events: Sequence[Event]) -> None:
        """Write the events' lines at once, into a file whole, whatever other processes write there. Raises OSError."""
        lines = (mask_event(event) if self.masked else event for event in events)
        data = "".join(event.to_json() + "\n" for event in lines).encode()
        if self.path is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            _append(self.path, data)


def _append(path: Path, data: bytes) -> None:
    """Append `data` while nobody else of ours does; make the file, and its folders, if it is not there (any more)."""
    try:
        target = _open(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = _open(path)
    try:
        if stat.S_ISREG(os.fstat(target).st_mode):
            fcntl.flock(target, fcntl.LOCK_EX)  # given back when it is closed
            size = os.fstat(target).st_size
            if size and os.pread(target, 1, size - 1) != b"\n":
                data = b"\n" + data  # a process was killed, or the disk full, in the middle of a line: leave it there
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
    finally:
        os.close(target)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)


# Read once, before the first event. Not when the module is loaded: others than this handler's workers load it too.
@functools.cache
def _writer() -> LineWriter:
    return LineWriter.from_environ(os.environ)


@handler(ReportEvent, ReplyEvent, name="log", batch=True, settings=_writer)
def log(events: Sequence[Event]) -> None:
    """Write each event of the batch as one line."""
    _writer().write(events)
