"""gzip of the files that are closed, on a thread of its own, so that no event waits for it.

A file is there whole at every moment, unpacked or packed: the packed one is written under another name, brought to the
disk, and given its name in one step; only then the other goes. Who reads in between sees the same lines twice.
"""

import fcntl
import gzip
import logging
import os
import shutil
import stat
import threading
import time
from pathlib import Path
from typing import BinaryIO, Final, cast

from workers.handlers.jsonl import folder

log = logging.getLogger("callbacks.jsonl")

_UNFINISHED: Final = ".part"
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
# What has such a name and is a named pipe would keep us waiting; where a symbolic link leads is not ours.
_SOURCE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK_BYTES: Final = 1 << 20
# What could not be packed, as the disk was full, is tried again after this.
_RETRY_SECONDS: Final = 60.0


class GzipWorker:
    """Packs what is closed in one folder, from `start` to `stop`, whoever closed it and whenever."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._wanted = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._log_at = 0.0

    def start(self) -> None:
        """Begin with what is there."""
        self._stopping = False
        self._wanted.set()
        self._thread = threading.Thread(target=self._work, name="jsonl-gzip", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Say that a file was closed."""
        self._wanted.set()

    def stop(self) -> None:
        """End within a moment; what is half packed is thrown away, for the next."""
        self._stopping = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def compress_closed(self) -> None:
        """Pack what is closed, unless another process is at it; raise what went wrong first, after the last file."""
        try:
            lock = os.open(self._directory / ".gzip-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except FileNotFoundError:
            return  # nothing was written yet
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in self._directory.glob(f"events-*{_UNFINISHED}"):
                if folder.start_stamp(left.with_suffix("")) and not left.is_dir():  # others may have such files too
                    left.unlink(missing_ok=True)  # of a process that died
            raised: list[Exception] = []
            for path in folder.list_files(self._directory):
                if path.suffix != folder.GZIP_SUFFIX and not path.is_symlink() and not self._stopping:
                    try:
                        self._compress(path)
                    except Exception as exc:  # noqa: BLE001 # one file keeps none of the others waiting
                        raised.append(exc)
            if raised:
                raise raised[0]
        except BlockingIOError:
            return
        finally:
            os.close(lock)

    def _work(self) -> None:
        while not self._stopping:
            self._wanted.wait(_RETRY_SECONDS)
            self._wanted.clear()
            try:
                self.compress_closed()
            except OSError as exc:
                log.warning("action=gzip_failed folder=%s error=%s", self._directory, exc.strerror)
            except Exception as exc:  # noqa: BLE001 # the thread outlives what nobody foresaw
                self._log_unforeseen(exc)

    def _log_unforeseen(self, exc: Exception) -> None:
        # With its traceback, so not each time that a file is closed.
        if time.monotonic() >= self._log_at:
            self._log_at = time.monotonic() + _RETRY_SECONDS
            log.error("action=gzip_failed folder=%s error=%s", self._directory, type(exc).__name__, exc_info=exc)

    def _compress(self, path: Path) -> None:
        with os.fdopen(os.open(path, _SOURCE), "rb") as source:
            status = os.fstat(source.fileno())
            if not stat.S_ISREG(status.st_mode) or not folder.is_closed(status):
                return
            packed = path.with_name(path.name + folder.GZIP_SUFFIX)
            unfinished = packed.with_name(packed.name + _UNFINISHED)
            try:
                with os.fdopen(os.open(unfinished, _NEW, 0o600), "wb") as target:
                    with gzip.GzipFile(path.name, "wb", fileobj=target, mtime=status.st_mtime) as packing:
                        self._copy(source, cast("BinaryIO", packing))
                    if self._stopping:
                        return
                    target.flush()
                    shutil.copystat(path, unfinished)
                    os.fsync(target.fileno())
                unfinished.replace(packed)
            finally:
                unfinished.unlink(missing_ok=True)
        folder.sync_folder(self._directory)
        path.unlink(missing_ok=True)

    def _copy(self, source: BinaryIO, target: BinaryIO) -> None:
        while not self._stopping and (block := source.read(_BLOCK_BYTES)):
            target.write(block)
