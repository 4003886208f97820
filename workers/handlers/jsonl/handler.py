"""The handler `jsonl`: writes each event as a line of JSON to files, for grep, jq, DuckDB, pandas or archiving.

    CALLBACKS_JSONL_DIR         the folder, ./var/events by default
    CALLBACKS_JSONL_MAX_BYTES   a file is closed before it grows beyond this (64 MiB), and at midnight UTC
    CALLBACKS_JSONL_GZIP        true: closed files are compressed

A line is on the disk before its event counts as delivered. A repeated event has one line, unless 50,000 others came in
between; for certainty, count distinct `id`s. While the disk cannot be written, the queue pauses.
"""

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from callbacks import Event, Pause, ReplyEvent, ReportEvent, disk, handler
from workers.handlers.jsonl.gzip_worker import GzipWorker
from workers.handlers.jsonl.writer import Writer

_DEFAULT_MAX_BYTES: Final = 64 << 20
_MIN_BYTES: Final = 1 << 10
# Compressed files are read whole to find the ids in them.
_MAX_BYTES: Final = 1 << 30
# How often one event is tried while the disk is full.
_PAUSE_SECONDS: Final = 15.0
_TIMEOUT_SECONDS: Final = 60


class EventFiles:
    """The files of one folder in one worker process."""

    def __init__(self, directory: Path, *, max_bytes: int, packed: bool) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.packed = packed
        self._gzip = GzipWorker(directory)
        self._writer = Writer(directory, max_bytes=max_bytes, on_closed=self._gzip.notify)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Return the files that the three variables describe. Raise ValueError, which names the wrong variable."""

        def given(name: str) -> str:
            return environ.get(name, "").strip()

        directory = Path(given("CALLBACKS_JSONL_DIR") or "./var/events")
        try:
            is_file = directory.exists() and not directory.is_dir()
        except OSError as exc:
            raise ValueError(f"CALLBACKS_JSONL_DIR: '{directory}' cannot be used: {exc.strerror}") from None
        if is_file:
            raise ValueError(f"CALLBACKS_JSONL_DIR: '{directory}' is a file, not a folder")
        if problem := disk.find_write_problem(directory):
            raise ValueError(f"CALLBACKS_JSONL_DIR: {problem}")
        size = given("CALLBACKS_JSONL_MAX_BYTES") or str(_DEFAULT_MAX_BYTES)
        if not re.fullmatch(r"[0-9]{1,15}", size) or not _MIN_BYTES <= int(size) <= _MAX_BYTES:
            raise ValueError(
                f"CALLBACKS_JSONL_MAX_BYTES: must be a whole number from {_MIN_BYTES} to {_MAX_BYTES}, not {size!r}"
            )
        packed = given("CALLBACKS_JSONL_GZIP") or "false"
        if packed not in ("true", "false"):
            raise ValueError(f"CALLBACKS_JSONL_GZIP: must be true or false, not {packed!r}")
        return cls(directory, max_bytes=int(size), packed=packed == "true")

    @contextmanager
    def open(self) -> Iterator[None]:
        """Compress closed files while this is entered, if set so; close the open file at the end."""
        if self.packed:
            self._gzip.start()
        try:
            yield
        finally:
            self._gzip.stop()
            self._writer.close()

    def write(self, events: Sequence[Event]) -> None:
        """Write the events. Raise Pause while the disk cannot be written."""
        try:
            self._writer.write(events)
        except OSError as exc:
            # `from None`: the reason says it all, and a full disk is not a bug in the handler.
            raise Pause(_PAUSE_SECONDS, f"{self.directory}: {exc.strerror or exc}") from None


# Read at the first event, not on import: processes that do not run this handler import the module too.
@functools.cache
def _files() -> EventFiles:
    return EventFiles.from_environ(os.environ)


@contextmanager
def lifespan() -> Iterator[None]:
    """Hold this process's files while the worker runs."""
    with _files().open():
        yield


@handler(
    ReportEvent,
    ReplyEvent,
    name="jsonl",
    batch=True,
    timeout_seconds=_TIMEOUT_SECONDS,
    lifespan=lifespan,
    settings=_files,
)
def jsonl(events: Sequence[Event]) -> None:
    """Write each event of the batch as one line."""
    _files().write(events)
