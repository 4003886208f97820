"""The ids of the latest events in the files: kept in memory, and read from the files themselves.

When a worker dies its batch is delivered again to another process, which finds the ids in the files. So no separate
record of ids is needed.
"""

import gzip
import os
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from workers.handlers.jsonl import folder

# Several times the events in flight of a handler's processes, at most 5,000 each. An id takes 100 bytes.
MAX_RECENT_IDS: Final = 50_000
_TAIL_BYTES: Final = 64 << 20
# A complete line, as `event.to_json()` writes it. A crash of the machine may leave zeros in lines.
_LINE: Final = re.compile(rb'^\{"kind":"re(?:port|ply)","id":"([^"\\]+)"[^\0\n]*\}$', re.MULTILINE)
_END: Final = b"}\n"
_BLOCK_BYTES: Final = 1 << 20


class RecentIds:
    """The ids of at least the last `max_ids` events, and of at most twice as many."""

    def __init__(self, *, max_ids: int = MAX_RECENT_IDS) -> None:
        self._max_ids = max_ids
        self._current: set[str] = set()
        self._previous: set[str] = set()

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._current or event_id in self._previous

    def add(self, ids: Iterable[str]) -> None:
        """Add ids, oldest first."""
        for event_id in ids:
            self._current.add(event_id)
            if len(self._current) >= self._max_ids:
                self._current, self._previous = set(), self._current

    def load(self, paths: Iterable[Path]) -> None:
        """Add the ids in files, given newest first, until there are `max_ids`. Raise OSError."""
        older: list[deque[str]] = []
        left = self._max_ids
        for path in paths:
            older.append(deque(_read_file_ids(path), maxlen=left))
            left -= len(older[-1])
            if left <= 0:
                break
        for ids in reversed(older):
            self.add(ids)


def read_ids(opened: int, first: int, end: int) -> Iterator[str]:
    """Yield the ids between two ends of lines in an open file; of more than 64 MiB, only those in the last 64 MiB."""
    start = max(first, end - _TAIL_BYTES)
    rest = b"" if start == first else b"?"  # so that the end of a line does not match as a line
    while start < end and (data := os.pread(opened, min(_BLOCK_BYTES, end - start), start)):
        start += len(data)
        lines, newline, rest = (rest + data).rpartition(b"\n")
        yield from _find_ids(lines + newline)


def last_line_end(opened: int, size: int) -> int:
    """Return the position after the last complete line of an open file."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        found = os.pread(opened, end - start, start).rfind(_END)
        if found >= 0:
            return start + found + len(_END)
        end = start + 1 if start else 0  # the two characters may be in different blocks
    return 0


def _read_file_ids(path: Path) -> Iterable[str]:
    try:
        if path.suffix == folder.GZIP_SUFFIX:
            with gzip.open(path) as lines:
                yield from (event_id for line in lines for event_id in _find_ids(line))
        else:
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield from read_ids(opened, 0, os.fstat(opened).st_size)
            finally:
                os.close(opened)
    except FileNotFoundError:
        packed = path.with_name(path.name + folder.GZIP_SUFFIX)
        if packed != path and packed.exists():  # it was compressed just now
            yield from _read_file_ids(packed)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return  # not written by us: its ids are unknown


def _find_ids(data: bytes) -> list[str]:
    return [found.decode(errors="replace") for found in _LINE.findall(data)]
