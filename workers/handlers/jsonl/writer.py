"""Appends a batch of events to the newest file: each event once, in complete lines, synced to the disk on return.

Several processes write in turn. Each first reads what the others have added, so that an event written by a process that
died is not written again. After an error the file is as it was before; a partial line, left by a killed process, is
removed before anything is added.
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from callbacks import Event, disk
from callbacks.log import get_logger
from workers.handlers.jsonl import folder, recent_ids
from workers.handlers.jsonl.recent_ids import RecentIds

log = get_logger("callbacks.jsonl")

_END: Final = b"}\n"


def _now() -> datetime:
    return datetime.now(UTC)


class Writer:
    """Writes events into one folder's files of at most `max_bytes` (a longer line has a file of its own).

    `on_closed` is called when a file was closed; `now` returns the time.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        on_closed: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self.directory = directory
        self._max_bytes = max_bytes
        self._on_closed = on_closed
        self._now = now
        self._recent = RecentIds()
        self._path: Path | None = None
        self._opened = -1
        self._read_to = 0
        # Lines of a killed process may not be on the disk yet.
        self._needs_sync = False

    def write(self, events: Sequence[Event]) -> None:
        """Write the events that are not in the files yet. Raise OSError; then only complete lines were written."""
        lines = {event.id: (event.to_json() + "\n").encode() for event in events}
        with folder.lock_folder(self.directory):
            today = folder.day_stamp(self._now())
            self._catch_up()
            new = {event_id: line for event_id, line in lines.items() if event_id not in self._recent}
            waiting: list[str] = []
            size = self._read_to
            is_todays = self._path is not None and folder.start_stamp(self._path) >= today
            for event_id, line in new.items():
                if not is_todays or 0 < size > self._max_bytes - len(line):
                    self._append(waiting, new)
                    self._start_file()
                    waiting, size, is_todays = [], 0, True
                waiting.append(event_id)
                size += len(line)
            self._append(waiting, new)
            if self._needs_sync:
                disk.sync_data(self._opened)
                self._needs_sync = False

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        if self._opened >= 0:
            os.close(self._opened)
        self._path, self._opened, self._read_to = None, -1, 0
        self._recent = RecentIds()

    def _catch_up(self) -> None:
        """Open the newest file without a partial line, and read the ids that were added since our last turn."""
        if self._path is not None:
            self._read()
            if not folder.is_closed(os.fstat(self._opened)) and folder.has_name(self._path, self._opened):
                return
        last = "" if self._path is None else folder.start_stamp(self._path)
        newer = [path for path in folder.list_files(self.directory) if folder.start_stamp(path) > last]
        newest = folder.find_open_file(newer)
        self._recent.load(path for path in reversed(newer) if path != newest)
        if newest is not None:
            self._switch_to(newest, folder.reopen_file(newest))
            self._read()
        elif self._opened >= 0:
            os.close(self._opened)
            self._opened, self._path, self._read_to, self._needs_sync = -1, None, 0, False

    def _read(self) -> None:
        """Read the new ids in the open file; remove a partial line at its end."""
        size = os.fstat(self._opened).st_size
        if size == self._read_to:
            return
        end = size
        if os.pread(self._opened, len(_END), max(0, size - len(_END))) != _END:
            end = recent_ids.last_line_end(self._opened, size)
            if not folder.is_closed(os.fstat(self._opened)):
                os.ftruncate(self._opened, end)
                log.warning("partial_line_removed", file=self._path and self._path.name, bytes=size - end)
        if end > self._read_to:
            self._recent.add(recent_ids.read_ids(self._opened, self._read_to, end))
        self._read_to = end
        self._needs_sync = True

    def _append(self, ids: list[str], lines: dict[str, bytes]) -> None:
        """Append lines to the open file, all or none, and sync them."""
        if not ids:
            return
        rest = memoryview(b"".join(lines[event_id] for event_id in ids))
        size = self._read_to + len(rest)
        try:
            while rest:
                rest = rest[os.write(self._opened, rest) :]
            disk.sync_data(self._opened)
        except BaseException:
            # The disk is full, or the handler timed out: remove what was written, complete lines too.
            os.ftruncate(self._opened, self._read_to)
            raise
        self._read_to, self._needs_sync = size, False
        self._recent.add(ids)

    def _start_file(self) -> None:
        """Close the open file, if any, and start the next."""
        last = ""
        if self._path is not None:
            if self._needs_sync:
                disk.sync_data(self._opened)
            folder.mark_closed(self._opened)
            last = folder.start_stamp(self._path)
        elif there := folder.list_files(self.directory):
            last = folder.start_stamp(there[-1])
        self._switch_to(*folder.create_file(self.directory, self._now(), after=last))
        self._needs_sync = False
        if last:
            self._on_closed()

    def _switch_to(self, path: Path, opened: int) -> None:
        if self._opened >= 0:
            os.close(self._opened)
        self._path, self._opened, self._read_to = path, opened, 0
