"""The handler `jsonl`: every event as one line of JSON in files, for grep, jq, DuckDB, pandas, and for keeping.

    CALLBACKS_JSONL_DIR         the folder, ./var/events by default
    CALLBACKS_JSONL_MAX_BYTES   a file that would grow beyond it is closed (64 MiB); so is yesterday's, by UTC
    CALLBACKS_JSONL_GZIP        true: closed files are packed

A line is on the disk before its event counts as delivered. An event that comes again has one line, unless 50,000 others
came in between; readers who must be certain go by `id`. While the disk takes nothing, all events wait.
"""

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from callbacks import Event, Pause, ReplyEvent, ReportEvent, handler
from workers.handlers.jsonl.gzip_worker import GzipWorker
from workers.handlers.jsonl.writer import Writer

_DEFAULT_MAX_BYTES: Final = 64 << 20
_MIN_BYTES: Final = 1 << 10
# Packed files are read whole to know what is in them.
_MAX_BYTES: Final = 1 << 30
# A disk that is full is looked at again this often, with one event.
_PAUSE_SECONDS: Final = 15.0
_TIMEOUT_SECONDS: Final = 60


class EventFiles:
    """The files of one folder, for as long as a worker process lives."""

    def __init__(self, directory: Path, *, max_bytes: int, packed: bool) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.packed = packed
        self._gzip = GzipWorker(directory)
        self._writer = Writer(directory, max_bytes=max_bytes, on_closed=self._gzip.notify)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the three variables. Raises ValueError, which names the variable that is wrong."""

        def given(name: str) -> str:
            return environ.get(name, "").strip()

        directory = Path(given("CALLBACKS_JSONL_DIR") or "./var/events")
        try:
            is_file = directory.exists() and not directory.is_dir()
        except OSError as exc:
            raise ValueError(f"CALLBACKS_JSONL_DIR: '{directory}' cannot be used: {exc.strerror}") from None
        if is_file:
            raise ValueError(f"CALLBACKS_JSONL_DIR: '{directory}' is a file, not a folder")
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
        """Pack closed files meanwhile, if that is wanted, and close what was opened at the end."""
        if self.packed:
            self._gzip.start()
        try:
            yield
        finally:
            self._gzip.stop()
            self._writer.close()

    def write(self, events: Sequence[Event]) -> None:
        """Write the events. Raises Pause while the disk takes none."""
        try:
            self._writer.write(events)
        except OSError as exc:
            # Not `from`: the reason says all, and a full disk is no error of the handler's.
            raise Pause(_PAUSE_SECONDS, f"{self.directory}: {exc.strerror or exc}") from None


# Read once, before the first event. Not when the module is loaded: others than this handler's workers load it too.
@functools.cache
def _files() -> EventFiles:
    return EventFiles.from_environ(os.environ)


@contextmanager
def lifespan() -> Iterator[None]:
    """Keep the files of this process."""
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
