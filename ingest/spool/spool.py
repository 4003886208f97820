"""One spool: batches of callbacks on the local disk, in order, until Redis has taken them.

What was appended is on disk, and stays until it is removed. A damaged row is moved to a file of its own, as it is, and
never blocks the rest. Everything here blocks: it is called in one thread, which is not the event loop's.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from ingest import log
from ingest.group_commit import MAX_BYTES, MAX_CALLBACKS, BatchEntry
from ingest.spool.file import DiskUnavailable, SpoolFile, SpoolMalformed, error_name, is_malformed, write_new
from shared import sealed_data
from shared.batches import Accepted, Quarantined, TracedAccepted, drop_empty_trace, now_ms
from shared.sealed_data import SealKeyMissing


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch as it is stored: msgpack of two lists, one for each of the two kinds of entries; perhaps sealed."""

    callbacks: int
    oldest_ms: int
    entries: bytes


@dataclass(frozen=True, slots=True)
class SpoolRow:
    """A stored batch that was read, and is what was written."""

    id: int
    epoch: int
    entries: Sequence[BatchEntry]
    raw: bytes


@dataclass(frozen=True, slots=True)
class _Damaged:
    id: int
    epoch: int
    callbacks: int
    raw: bytes


def pack(batch: Sequence[BatchEntry]) -> Packed:
    """Return `batch` as it is stored."""
    accepted = [entry for entry in batch if isinstance(entry, Accepted)]
    quarantined = [entry for entry in batch if isinstance(entry, Quarantined)]
    oldest_ms = min(entry.received_ms for entry in batch)
    entries = sealed_data.seal(msgspec.msgpack.encode((accepted, quarantined)), sealed_data.SPOOL)
    return Packed(len(batch), oldest_ms, entries)


class Spool:
    """The spool in one file, which this process holds until `close` or `discard`."""

    def __init__(self) -> None:
        self.file: SpoolFile
        self.batches = 0
        self.callbacks = 0
        self.oldest_ms: int | None = None
        # SQLite has found damage in the file. What comes before it is drained, and nothing more is appended.
        self.damaged = False
        self._cursor = 0
        # Rows that are done but could not be deleted: on a full disk even that needs room. They are skipped until the
        # whole file can be deleted, which needs none.
        self._undeleted: set[int] = set()
        # Rows that are skipped and stay: damaged ones that could not be moved to a file, and those that are sealed with
        # a key that this process does not have. And how many callbacks are in them.
        self._left: set[int] = set()
        self.left_callbacks = 0
        self._logged: set[str] = set()

    @classmethod
    def acquire(cls, path: Path, *, make: bool) -> Self | None:
        """Open the spool at `path`. Return None if another process holds it, or if it is missing and not `make`.

        Raise DiskUnavailable.
        """
        spool = cls()
        file = SpoolFile.acquire(path, spool._count, make=make)
        if file is None:
            return None
        spool.file = file
        return spool

    def append(self, batch: Packed) -> None:
        """Store `batch` durably. Raise DiskUnavailable.

        After SpoolMalformed another file may take it.
        """
        sql = "INSERT INTO batches (callbacks, oldest_ms, digest, entries) VALUES (?, ?, ?, ?)"
        row = (batch.callbacks, batch.oldest_ms, _digest(batch.entries), batch.entries)
        try:
            self.file.run(lambda db: db.execute(sql, row).close())
        except SpoolMalformed:
            self.damaged = True
            raise
        self.batches += 1
        self.callbacks += batch.callbacks
        if self.oldest_ms is None:
            self.oldest_ms = batch.oldest_ms

    def read(self) -> list[SpoolRow]:
        """Return the next rows, in order, as many as one commit takes. After the last return none, then start again.

        They stay until they are removed. Damaged rows are moved to files. None are returned too if as many as one
        commit takes could not be read: then the next call continues. Raise DiskUnavailable.
        """
        rows: list[SpoolRow] = []
        damaged: list[_Damaged] = []
        is_last = True
        try:
            is_last = self.file.run(lambda db: self._read(db, rows, damaged))
        except SpoolMalformed as exc:
            self.file.replace_malformed(exc)
        for row in damaged:
            self._move_to_file(row, "damaged")
        if not rows and is_last:
            self._cursor = 0
        return rows

    def rewind(self) -> None:
        """Read from the oldest row again."""
        self._cursor = 0

    def remove(self, rows: Sequence[SpoolRow]) -> None:
        """Delete `rows`, which are stored elsewhere now. Raise DiskUnavailable if no new file can be made."""
        current = [row for row in rows if row.epoch == self.file.epoch]
        self._delete_rows([row.id for row in current], sum(len(row.entries) for row in current))

    def move_to_file(self, row: SpoolRow, why: str) -> None:
        """Move `row`, as it is stored, to a file next to the spool. Raise DiskUnavailable as `remove` does."""
        self._move_to_file(_Damaged(row.id, row.epoch, len(row.entries), row.raw), why)

    def _count(self, db: sqlite3.Connection) -> None:
        self.batches = self.callbacks = self.left_callbacks = self._cursor = 0
        self.oldest_ms = None
        self.damaged = False
        self._undeleted.clear()
        self._left.clear()
        sql = "SELECT CAST(callbacks AS INTEGER), CAST(oldest_ms AS INTEGER) FROM batches ORDER BY id"
        try:
            with closing(db.execute(sql)) as found:
                for callbacks, oldest_ms in found:
                    self.batches += 1
                    self.callbacks += callbacks
                    if self.oldest_ms is None:
                        self.oldest_ms = oldest_ms
        except sqlite3.DatabaseError as exc:
            if not self.batches or not is_malformed(exc):
                raise
            # At least one more row, which cannot be read: so the spool never counts as empty.
            self.damaged = True
            self.batches += 1
            self.callbacks += 1

    def _read(self, db: sqlite3.Connection, rows: list[SpoolRow], damaged: list[_Damaged]) -> bool:
        """Read some rows into `rows` and `damaged`. Return whether no others follow."""
        callbacks = size_bytes = 0
        try:
            # Only the ids: what is skipped may be much, and is not read again.
            with closing(db.execute("SELECT id FROM batches WHERE id > ? ORDER BY id", (self._cursor,))) as found:
                for (number,) in found:
                    if number not in self._undeleted and number not in self._left:
                        inside, digest, raw = _fetch(db, number)
                        is_first = not callbacks
                        # What cannot be read counts too: appends wait until this returns.
                        callbacks += max(1, inside)
                        size_bytes += len(raw)
                        if not is_first and (callbacks > MAX_CALLBACKS or size_bytes > MAX_BYTES):
                            return False
                        try:
                            entries = _unpack(raw, digest)
                        except SealKeyMissing as exc:
                            self._leave_sealed(number, inside, str(exc))
                        else:
                            if entries is None:
                                damaged.append(_Damaged(number, self.file.epoch, inside, raw))
                            else:
                                rows.append(SpoolRow(number, self.file.epoch, entries, raw))
                    self._cursor = number
        except sqlite3.DatabaseError as exc:
            if not rows or not is_malformed(exc):
                raise
            self.damaged = True  # the next read begins there
        return True

    def _leave(self, number: int, callbacks: int) -> None:
        self._left.add(number)
        self.left_callbacks += callbacks

    def _leave_sealed(self, number: int, callbacks: int, why: str) -> None:
        self._leave(number, callbacks)
        if why not in self._logged:  # it names the key, and there may be many more records
            self._logged.add(why)
            log.logger.error("spool_record", file=self.file.path.name, record=number, not_drained=why)

    def _move_to_file(self, row: _Damaged, why: str) -> None:
        if row.epoch != self.file.epoch:
            return
        path = self.file.path
        target = path.with_name(f"{path.stem}-{row.id}-{now_ms()}.{why}")
        fields = {"file": path.name, "record": row.id, "callbacks": row.callbacks, "why": why}
        try:
            write_new(target, row.raw)
        except OSError as exc:
            log.logger.error("spool_record", **fields, not_moved=error_name(exc))
            self._leave(row.id, row.callbacks)
            return
        log.logger.error("spool_record", **fields, moved_to=target.name)
        self._delete_rows([row.id], row.callbacks)

    def _delete_rows(self, numbers: Sequence[int], callbacks: int) -> None:
        self.batches -= len(numbers)
        self.callbacks -= callbacks
        self._undeleted.update(numbers)
        with suppress(DiskUnavailable):
            self.file.run(self._delete)
        if self.batches:
            with suppress(DiskUnavailable):
                self.oldest_ms = self.file.run(self._oldest)
            return
        self.oldest_ms = None
        self._cursor = 0
        if self.file.exists():
            # SQLite leaves the bytes of deleted rows in a file, and they are people's data.
            self.file.recreate()

    def _delete(self, db: sqlite3.Connection) -> None:
        numbers = list(self._undeleted)
        for first in range(0, len(numbers), MAX_CALLBACKS):
            some = numbers[first : first + MAX_CALLBACKS]
            db.execute(f"DELETE FROM batches WHERE id IN ({','.join('?' * len(some))})", some).close()  # noqa: S608
            self._undeleted.difference_update(some)

    def _oldest(self, db: sqlite3.Connection) -> int | None:
        with closing(db.execute("SELECT id, CAST(oldest_ms AS INTEGER) FROM batches ORDER BY id")) as found:
            return next((oldest_ms for number, oldest_ms in found if number not in self._undeleted), None)


def _fetch(db: sqlite3.Connection, number: int) -> tuple[int, bytes, bytes]:
    # CAST, as damage can change the type of a value.
    sql = """SELECT CAST(callbacks AS INTEGER), CAST(digest AS BLOB), CAST(entries AS BLOB)
        FROM batches WHERE id = ?"""
    with closing(db.execute(sql, (number,))) as found:
        row: tuple[int, bytes, bytes] | None = found.fetchone()
    if row is None:
        # Listed, and not found by its id.
        error = sqlite3.DatabaseError("row missing")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
    return row


def _unpack(raw: bytes, digest: bytes) -> Sequence[BatchEntry] | None:
    if _digest(raw) != digest:
        return None
    try:
        plain = sealed_data.unseal_whole(raw, sealed_data.SPOOL)
        accepted, quarantined = msgspec.msgpack.decode(plain, type=tuple[list[TracedAccepted], list[Quarantined]])
    except SealKeyMissing:
        raise
    except (sealed_data.Sealed, msgspec.DecodeError):
        return None
    return [*map(drop_empty_trace, accepted), *quarantined]


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()
