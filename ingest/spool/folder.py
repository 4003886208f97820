"""The folder of the spools: this process's own, and those of dead processes, which it takes over to drain them.

Spools are numbered; a process takes the first that nobody holds, whatever is still in it. Several processes share the
folder, and its limit counts what all of them hold. Everything here blocks: it is called in one thread.
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
from ingest.spool.file import DiskUnavailable, SpoolMalformed, fsync_folder, name
from ingest.spool.spool import Spool, SpoolRow, pack
from shared.errors import StoreUnavailable

_NAME: Final = re.compile(r"spool-[0-9]+\.db")
# Far more than the processes of one machine.
_MOST: Final = 1000


class SpoolFull(StoreUnavailable):
    """The folder holds as many bytes as it may: room comes when Redis takes what waits."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for Redis: how many callbacks, since when (ms since 1970), and how many bytes the folder holds."""

    callbacks: int = 0
    oldest_ms: int | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DrainBatch:
    """What one commit can take of the oldest that waits."""

    spool: Spool
    rows: Sequence[SpoolRow]


class SpoolFolder:
    """The spools that this process holds. `backlog` may be read in any thread."""

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        self.path = path
        self.limit_bytes = limit_bytes
        self.backlog = Backlog()
        self._own: Spool | None = None
        self._others: list[Spool] = []
        self._told: set[Path] = set()

    def open(self) -> None:
        """Make the folder where it is missing, and take a spool of our own. Raises Failing."""
        self._ours()
        self._measure()

    def append(self, batch: Sequence[BatchEntry]) -> None:
        """Store `batch`; afterwards it is on disk. Raises Full and Failing."""
        packed = pack(batch)
        own = self._ours()
        if self._size_bytes() + len(packed.entries) > self.limit_bytes:
            raise SpoolFull(f"the spool holds its {self.limit_bytes} bytes")
        try:
            own.append(packed)
        except SpoolMalformed:
            self._ours().append(packed)
        self._measure()

    def take_over_orphans(self) -> None:
        """Take over what dead processes have left, and see that our own spool can be written. Raises Failing."""
        own = self._ours()
        held = {own.file.path, *(spool.file.path for spool in self._others)}
        for path in self._spools():
            if path not in held:
                self._take_over(path)
        self._let_go()
        self._measure()

    def probe(self) -> None:
        """Write something, to see whether the disk does what it should again. Raises Failing."""
        self._ours().file.probe()

    def next_batch(self) -> DrainBatch | None:
        """Give what to drain next, of dead processes first; None at the end, then from the start. Raises Failing."""
        for spool in [*self._others, self._ours()]:
            rows = spool.read()
            if rows:
                return DrainBatch(spool, rows)
        self._measure()
        return None

    def rewind(self, load: DrainBatch) -> None:
        """Give the same load again next time."""
        load.spool.rewind()

    def remove(self, load: DrainBatch, rows: Sequence[SpoolRow]) -> None:
        """Forget `rows` of `load`: Redis has them. Raises Failing."""
        try:
            load.spool.remove(rows)
        finally:
            self._let_go()
            self._measure()

    def move_to_file(self, load: DrainBatch, row: SpoolRow, why: str) -> None:
        """Put a row of `load` into a file of its own, where it is in nobody's way. Raises Failing."""
        load.spool.move_to_file(row, why)
        self._measure()

    def close(self) -> None:
        """Let go of every spool. What is in them stays for the next process; empty ones are removed."""
        held = self._held()
        self._own, self._others = None, []
        for spool in held:
            if spool.batches:
                spool.file.close()
            else:
                spool.file.discard()

    def _ours(self) -> Spool:
        if self._own is not None and (self._own.damaged or not self._own.file.is_there()):
            # What is in it is drained as far as it can be read. If someone has deleted it under our feet, that is
            # possible until this process ends.
            self._others.append(self._own)
            self._own = None
        if self._own is None:
            self._own = self._take()
        return self._own

    def _take(self) -> Spool:
        try:
            if not self.path.is_dir():
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                fsync_folder(self.path.parent)
        except OSError as exc:
            raise DiskUnavailable(name(exc)) from exc
        for number in range(_MOST):
            spool = Spool.acquire(self.path / f"spool-{number}.db", make=True)
            if spool is not None and not spool.damaged:
                return spool
            if spool is not None:
                self._others.append(spool)
        raise DiskUnavailable(f"{_MOST} other processes hold spools")

    def _take_over(self, path: Path) -> None:
        try:
            spool = Spool.acquire(path, make=False)
        except DiskUnavailable as exc:
            # Another user's perhaps. It is tried again, and told once.
            if path not in self._told:
                self._told.add(path)
                log.logger.error("action=spool_takeover_failed file=%s error=%s", path.name, exc)
            return
        if spool is not None:
            log.logger.info("action=spool_taken_over file=%s callbacks=%d", path.name, spool.callbacks)
            self._others.append(spool)

    def _let_go(self) -> None:
        for spool in [spool for spool in self._others if not spool.batches]:
            spool.file.discard()
            self._others.remove(spool)

    def _spools(self) -> list[Path]:
        try:
            # SQLite would wait for ever for what a named pipe of that name holds.
            return sorted(path for path in self.path.iterdir() if _NAME.fullmatch(path.name) and not path.is_fifo())
        except OSError as exc:
            raise DiskUnavailable(name(exc)) from exc

    def _held(self) -> list[Spool]:
        return [*self._others, *filter(None, [self._own])]

    def _measure(self) -> None:
        held = self._held()
        self.backlog = Backlog(
            sum(spool.callbacks for spool in held),
            min((spool.oldest_ms for spool in held if spool.oldest_ms is not None), default=None),
            self._size_bytes(),
        )

    def _size_bytes(self) -> int:
        """Add up the folder: of our spools what they hold, of everything else the files.

        SQLite's logs are left out: they are written over again and again, at 4 MiB each or a batch more.
        """
        held = self._held()
        ours = {spool.file.path.name for spool in held}
        size_bytes = 0
        for spool in held:
            with suppress(DiskUnavailable):  # whoever writes to it next is told
                size_bytes += spool.file.pages_bytes(free=False)
        try:
            with os.scandir(self.path) as found:
                for entry in found:
                    if entry.name not in ours and not entry.name.endswith("-wal"):
                        with suppress(FileNotFoundError):
                            size_bytes += entry.stat(follow_symlinks=False).st_size
        except OSError as exc:
            raise DiskUnavailable(name(exc)) from exc
        return size_bytes
