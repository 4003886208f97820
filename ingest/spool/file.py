"""The file of a spool: an SQLite database that one process holds, and that is renamed when it is malformed.

The lock is on a second file. It ends with the process and the database does not, so another process can take it over.
The lock's file is never removed, or two processes could hold two files of that name. Everything here blocks.
"""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Self, TypeVar

from ingest import log
from shared import disk
from shared.batches import now_ms
from shared.errors import StoreUnavailable

# EXCLUSIVE: with one connection SQLite needs no shared memory, which a full disk could turn into a SIGBUS. FULL: in WAL
# mode a commit is then one fsync, of the log. fullfsync is for macOS, whose fsync leaves data in the disk's own cache.
_PRAGMAS: Final = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
    "PRAGMA cell_size_check = ON",
)
_SCHEMA: Final = """CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY, callbacks INTEGER NOT NULL, oldest_ms INTEGER NOT NULL,
    digest BLOB NOT NULL, entries BLOB NOT NULL)"""
_MALFORMED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_Result = TypeVar("_Result")


class DiskUnavailable(StoreUnavailable):
    """The spool's disk fails. The message is the name of the error."""


class SpoolMalformed(DiskUnavailable):
    """SQLite says that the file is damaged, or not a database."""


class SpoolFile:
    """The database at `path`, opened when it is needed, and created if it is missing.

    `on_open` is called with each new connection. `epoch` counts them: a row's id is valid in its epoch only.
    """

    def __init__(self, path: Path, lock: int, on_open: Callable[[sqlite3.Connection], None]) -> None:
        self.path = path
        self.epoch = 0
        self._lock = lock
        self._on_open = on_open
        self._db: sqlite3.Connection | None = None
        self._inode = 0

    @classmethod
    def acquire(cls, path: Path, on_open: Callable[[sqlite3.Connection], None], *, make: bool) -> Self | None:
        """Lock and open the file. Return None if another process holds it, or if it is missing and not `make`.

        Raise DiskUnavailable.
        """
        try:
            lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise DiskUnavailable(error_name(exc)) from exc
        acquired = None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if make or path.exists():
                acquired = cls(path, lock, on_open)
                acquired.open_or_replace()
        except BlockingIOError:
            return None
        except _SpoolLocked:  # somebody has deleted the lock's file, but not the database
            acquired = None
        except OSError as exc:
            acquired = None
            raise DiskUnavailable(error_name(exc)) from exc
        except BaseException:
            acquired = None
            raise
        finally:
            if acquired is None:
                os.close(lock)
        return acquired

    def open_or_replace(self) -> None:
        """Open the file, or replace it by a new one if it is malformed. Raise DiskUnavailable."""
        try:
            self.run(lambda _db: None)
        except SpoolMalformed as exc:
            self.replace_malformed(exc)

    def run(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Return what `work` returns, called with the database.

        Raise DiskUnavailable; after SpoolMalformed the caller should call `replace_malformed`.
        """
        try:
            return work(self._connected())
        except (sqlite3.Error, OSError) as exc:
            if getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY:
                raise _SpoolLocked(error_name(exc)) from exc
            raise (SpoolMalformed if is_malformed(exc) else DiskUnavailable)(error_name(exc)) from exc

    def replace_malformed(self, why: SpoolMalformed) -> None:
        """Rename the file, and open a new one. Raise DiskUnavailable."""
        self._disconnect()
        renamed = self.path.with_name(f"{self.path.stem}-{now_ms()}.malformed")
        log.logger.error("spool_malformed", file=self.path.name, error=why, moved_to=renamed.name)
        try:
            self.path.rename(renamed)
            with suppress(FileNotFoundError):
                # SQLite finds a log by its name, and `sqlite3 FILE .recover` may need it.
                _wal(self.path).rename(_wal(renamed))
        except OSError as exc:
            raise DiskUnavailable(error_name(exc)) from exc
        self.run(lambda _db: None)

    def used_bytes(self) -> int:
        """Return the size of the database without its free pages. Raise DiskUnavailable."""

        def measure(db: sqlite3.Connection) -> int:
            return (_pragma(db, "page_count") - _pragma(db, "freelist_count")) * _pragma(db, "page_size")

        return self.run(measure)

    def probe(self) -> None:
        """Write a value that changes nothing, to see whether the disk works. Raise DiskUnavailable."""
        self.run(lambda db: db.execute("PRAGMA user_version = 1").close())

    def exists(self) -> bool:
        """Return whether the file still has its name. If somebody deleted it, it ends with this process."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def recreate(self) -> None:
        """Delete the file, which needs no room on the disk, and open a new one. Raise DiskUnavailable."""
        self._unlink()
        self.run(lambda _db: None)

    def close(self) -> None:
        """Close the file and release its lock. What is in it stays."""
        self._disconnect()
        os.close(self._lock)

    def discard(self) -> None:
        """Delete the file and release its lock."""
        self._unlink()
        os.close(self._lock)

    def _connected(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        if not self.path.exists():
            write_new(self.path, b"")  # SQLite would make it readable for all users
        db = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        try:
            for pragma in _PRAGMAS:
                db.execute(pragma).close()
            db.execute(_SCHEMA).close()
            self._on_open(db)
            self._inode = self.path.stat().st_ino
        except BaseException:
            db.close()
            raise
        self._db = db
        self.epoch += 1
        return db

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _unlink(self) -> None:
        self._disconnect()
        if self.exists():
            with suppress(OSError):
                # The log first: a new database of this name must not find the log of an old one.
                _wal(self.path).unlink(missing_ok=True)
                self.path.unlink()


class _SpoolLocked(DiskUnavailable):
    """Another process has the database open."""


def is_malformed(exc: Exception) -> bool:
    """Return whether SQLite says that the file is damaged, or not a database."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in _MALFORMED


def write_new(path: Path, content: bytes) -> None:
    """Write a file that only this user may read, and make it and its name durable; or leave nothing. Raise OSError."""
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(opened, "wb") as file:
            file.write(content)
            file.flush()
            disk.sync_file(opened)
        disk.sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def error_name(exc: Exception) -> str:
    """Return the name of a disk's error, such as ENOSPC or SQLITE_FULL. Its message may quote data."""
    if isinstance(exc, OSError) and exc.errno is not None:
        return errno.errorcode.get(exc.errno, str(exc.errno))
    return str(getattr(exc, "sqlite_errorname", type(exc).__name__))


def _pragma(db: sqlite3.Connection, name: str) -> int:
    with closing(db.execute(f"PRAGMA {name}")) as found:
        return int(found.fetchone()[0])


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")
