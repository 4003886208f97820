"""The folder of spools: this process's own, and those of dead processes, which it takes over and drains.

Spools are numbered. A process takes the first one that no process holds, whatever is in it. Several processes share the
folder, and its limit applies to all of them together. Everything here blocks: it is called in one thread.
"""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ingest import log
from ingest.group_commit import BatchEntry
from ingest.spool.file import DiskUnavailable, SpoolMalformed, error_name
from ingest.spool.spool import Spool, SpoolRow, pack
from shared import disk
from shared.errors import StoreUnavailable

_NAME: Final = re.compile(r"spool-[0-9]+\.db")
# Far more than the processes of one machine.
_MAX_SPOOLS: Final = 1000


class SpoolFull(StoreUnavailable):
    """The folder holds as many bytes as it may. There is room again when Redis takes what waits."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for Redis: how many callbacks, the time of the oldest (ms since 1970), the bytes in the folder.

    `drainable` are the callbacks without those that this process cannot read.
    """

    callbacks: int = 0
    oldest_ms: int | None = None
    size_bytes: int = 0
    drainable: int = 0


@dataclass(frozen=True, slots=True)
class DrainBatch:
    """The oldest waiting rows, as many as one commit takes."""

    spool: Spool
    rows: Sequence[SpoolRow]


class SpoolFolder:
    """The spools that this process holds. `backlog` may be read from any thread."""

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        self.path = path
        self.limit_bytes = limit_bytes
        self.backlog = Backlog()
        self._own: Spool | None = None
        self._others: list[Spool] = []
        self._reported: set[Path] = set()

    def open(self) -> None:
        """Make the folder if it is missing, and acquire a spool of our own. Raise DiskUnavailable."""
        self._own_spool()
        self._measure()

    def append(self, batch: Sequence[BatchEntry]) -> None:
        """Store `batch` durably. Raise SpoolFull and DiskUnavailable."""
        packed = pack(batch)
        own = self._own_spool()
        if self._size_bytes() + len(packed.entries) > self.limit_bytes:
            raise SpoolFull(f"the spool has reached its limit of {self.limit_bytes} bytes")
        try:
            own.append(packed)
        except SpoolMalformed:
            self._own_spool().append(packed)
        self._measure()

    def take_over_orphans(self) -> None:
        """Take over the spools of dead processes, and make sure that we have one of our own. Raise DiskUnavailable."""
        own = self._own_spool()
        held = {own.file.path, *(spool.file.path for spool in self._others)}
        for path in self._spools():
            if path not in held:
                self._take_over(path)
        self._discard_empty()
        self._measure()

    def probe(self) -> None:
        """Write something, to see whether the disk works again. Raise DiskUnavailable."""
        self._own_spool().file.probe()

    def next_batch(self) -> DrainBatch | None:
        """Return what to drain next, from dead processes first. After the last one return None, then start again.

        None is returned too after much that this process cannot read. Raise DiskUnavailable.
        """
        for spool in [*self._others, self._own_spool()]:
            rows = spool.read()
            if rows:
                return DrainBatch(spool, rows)
        self._measure()
        return None

    def rewind(self, batch: DrainBatch) -> None:
        """Make `next_batch` return this batch again."""
        batch.spool.rewind()

    def remove(self, batch: DrainBatch, rows: Sequence[SpoolRow]) -> None:
        """Delete `rows` of `batch`, which Redis has. Raise DiskUnavailable."""
        try:
            batch.spool.remove(rows)
        finally:
            self._discard_empty()
            self._measure()

    def move_to_file(self, batch: DrainBatch, row: SpoolRow, why: str) -> None:
        """Move a row of `batch` to a file of its own, so that it is not drained. Raise DiskUnavailable."""
        batch.spool.move_to_file(row, why)
        self._measure()

    def close(self) -> None:
        """Close every spool. What is in them stays for the next process; empty ones are deleted."""
        held = self._held()
        self._own, self._others = None, []
        for spool in held:
            if spool.batches:
                spool.file.close()
            else:
                spool.file.discard()

    def _own_spool(self) -> Spool:
        if self._own is not None and (self._own.damaged or not self._own.file.exists()):
            # It is drained as far as it can be read. If somebody has deleted its file, that is possible until this
            # process ends.
            self._others.append(self._own)
            self._own = None
        if self._own is None:
            self._own = self._acquire()
        return self._own

    def _acquire(self) -> Spool:
        try:
            if not self.path.is_dir():
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                disk.sync_folder(self.path.parent)
        except OSError as exc:
            raise DiskUnavailable(error_name(exc)) from exc
        for number in range(_MAX_SPOOLS):
            spool = Spool.acquire(self.path / f"spool-{number}.db", make=True)
            if spool is not None and not spool.damaged:
                return spool
            if spool is not None:
                self._others.append(spool)
        raise DiskUnavailable(f"{_MAX_SPOOLS} other processes hold spools")

    def _take_over(self, path: Path) -> None:
        try:
            spool = Spool.acquire(path, make=False)
        except DiskUnavailable as exc:
            # Perhaps it is another user's. It is tried again, and logged once.
            if path not in self._reported:
                self._reported.add(path)
                log.logger.error("spool_takeover_failed", file=path.name, error=exc)
            return
        if spool is not None:
            log.logger.info("spool_taken_over", file=path.name, callbacks=spool.callbacks)
            self._others.append(spool)

    def _discard_empty(self) -> None:
        for spool in [spool for spool in self._others if not spool.batches]:
            spool.file.discard()
            self._others.remove(spool)

    def _spools(self) -> list[Path]:
        try:
            # SQLite would wait for data of a named pipe without end.
            return sorted(path for path in self.path.iterdir() if _NAME.fullmatch(path.name) and not path.is_fifo())
        except OSError as exc:
            raise DiskUnavailable(error_name(exc)) from exc

    def _held(self) -> list[Spool]:
        return [*self._others, *filter(None, [self._own])]

    def _measure(self) -> None:
        held = self._held()
        self.backlog = Backlog(
            sum(spool.callbacks for spool in held),
            min((spool.oldest_ms for spool in held if spool.oldest_ms is not None), default=None),
            self._size_bytes(),
            sum(spool.callbacks - spool.left_callbacks for spool in held),
        )

    def _size_bytes(self) -> int:
        """Return the size of the folder: of our spools the used pages, of everything else the files.

        SQLite's logs do not count: they are reused, and have 4 MiB each or one batch more.
        """
        held = self._held()
        ours = {spool.file.path.name for spool in held}
        size_bytes = 0
        for spool in held:
            with suppress(DiskUnavailable):  # the next write to it raises it
                size_bytes += spool.file.used_bytes()
        try:
            with os.scandir(self.path) as found:
                for entry in found:
                    if entry.name not in ours and not entry.name.endswith("-wal"):
                        with suppress(FileNotFoundError):
                            size_bytes += entry.stat(follow_symlinks=False).st_size
        except OSError as exc:
            raise DiskUnavailable(error_name(exc)) from exc
        return size_bytes
