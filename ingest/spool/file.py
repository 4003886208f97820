"""The file of a spool: an SQLite database that one process holds, and that is put aside when it is malformed.

The lock stands in a file beside it and ends with the process, the database does not: so another process can take it
over. A lock's file is never removed, or two processes could hold two files of that name. Everything here blocks.
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
from shared.batches import now_ms
from shared.errors import StoreUnavailable

# One connection, so SQLite needs no shared memory, which a full disk could turn into a SIGBUS. FULL: in WAL mode a
# commit is then one fsync, of the log. fullfsync is for macOS, whose fsync leaves data in the disk's own cache.
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
    """The spool's disk does not do what it should; the message is the error's name."""


class SpoolMalformed(DiskUnavailable):
    """SQLite says that the file is damaged, or none of its own."""


class SpoolFile:
    """The database at `path`, opened when it is needed, with an empty table where there was none.

    `opened` is called with each new connection. `epoch` counts them: an id of one epoch means nothing in another.
    """

    def __init__(self, path: Path, lock: int, opened: Callable[[sqlite3.Connection], None]) -> None:
        self.path = path
        self.epoch = 0
        self._lock = lock
        self._opened = opened
        self._db: sqlite3.Connection | None = None
        self._inode = 0

    @classmethod
    def acquire(cls, path: Path, opened: Callable[[sqlite3.Connection], None], *, make: bool) -> Self | None:
        """Hold the file; None if another process has it, or if there is none and `make` is false. Raises Failing."""
        try:
            lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise DiskUnavailable(name(exc)) from exc
        taken = None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if make or path.exists():
                taken = cls(path, lock, opened)
                taken.begin()
        except BlockingIOError:
            return None
        except _SpoolLocked:  # someone has deleted the lock's file, but not the database
            taken = None
        except OSError as exc:
            taken = None
            raise DiskUnavailable(name(exc)) from exc
        except BaseException:
            taken = None
            raise
        finally:
            if taken is None:
                os.close(lock)
        return taken

    def begin(self) -> None:
        """Open the file, or a new one if nothing in it can be read. Raises Failing."""
        try:
            self.do(lambda _db: None)
        except SpoolMalformed as exc:
            self.replace_malformed(exc)

    def do(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Do `work` with the database. Raises Failing, of which Malformed wants the file to be put aside."""
        try:
            return work(self._connected())
        except (sqlite3.Error, OSError) as exc:
            if getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY:
                raise _SpoolLocked(name(exc)) from exc
            raise (SpoolMalformed if is_malformed(exc) else DiskUnavailable)(name(exc)) from exc

    def replace_malformed(self, why: SpoolMalformed) -> None:
        """Keep the file under another name, and begin a new one. Raises Failing."""
        self._disconnect()
        aside = self.path.with_name(f"{self.path.stem}-{now_ms()}.malformed")
        log.logger.error("action=spool_malformed file=%s error=%s moved_to=%s", self.path.name, why, aside.name)
        try:
            self.path.rename(aside)
            with suppress(FileNotFoundError):
                # SQLite finds a log by its name, and `sqlite3 FILE .recover` may want it.
                _wal(self.path).rename(_wal(aside))
        except OSError as exc:
            raise DiskUnavailable(name(exc)) from exc
        self.do(lambda _db: None)

    def pages_bytes(self, *, free: bool) -> int:
        """How large the database is, with or without the pages that hold nothing. Raises Failing."""

        def measure(db: sqlite3.Connection) -> int:
            pages = _number(db, "page_count") - (0 if free else _number(db, "freelist_count"))
            return pages * _number(db, "page_size")

        return self.do(measure)

    def probe(self) -> None:
        """Write something that changes nothing. Raises Failing."""
        self.do(lambda db: db.execute("PRAGMA user_version = 1").close())

    def is_there(self) -> bool:
        """Whether the file still has its name: one that was deleted by hand is gone when the process ends."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def renew(self) -> None:
        """Give all of the file back to the disk, which needs no room there, and begin a new one. Raises Failing."""
        self._unlink()
        self.do(lambda _db: None)

    def close(self) -> None:
        """Give the file and its lock back; what is in it stays."""
        self._disconnect()
        os.close(self._lock)

    def discard(self) -> None:
        """Remove the file, and give its lock back."""
        self._unlink()
        os.close(self._lock)

    def _connected(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        if not self.path.exists():
            write_new(self.path, b"")  # SQLite would make it readable for everyone
        db = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        try:
            for pragma in _PRAGMAS:
                db.execute(pragma).close()
            db.execute(_SCHEMA).close()
            self._opened(db)
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
        if self.is_there():
            with suppress(OSError):
                # The log first: a new database of the same name must not meet an old one's.
                _wal(self.path).unlink(missing_ok=True)
                self.path.unlink()


class _SpoolLocked(DiskUnavailable):
    """Another process has the database open."""


def is_malformed(exc: Exception) -> bool:
    """Whether SQLite says that the file is damaged, or none of its own."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in _MALFORMED


def write_new(path: Path, content: bytes) -> None:
    """Write a file that only we may read, and make it and its name durable; or leave nothing. Raises OSError."""
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(opened, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(opened)
        fsync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def name(exc: Exception) -> str:
    """Name an error of the disk, such as ENOSPC or SQLITE_FULL, without what its message may quote."""
    if isinstance(exc, OSError) and exc.errno is not None:
        return errno.errorcode.get(exc.errno, str(exc.errno))
    return str(getattr(exc, "sqlite_errorname", type(exc).__name__))


def _number(db: sqlite3.Connection, pragma: str) -> int:
    with closing(db.execute(f"PRAGMA {pragma}")) as found:
        return int(found.fetchone()[0])


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")
