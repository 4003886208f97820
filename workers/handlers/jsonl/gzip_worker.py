"""Compresses closed files on a thread of its own, so that no event waits for it.

A file is complete at every moment, plain or compressed: the compressed file is written under another name, synced and
renamed in one step; only then the plain file is removed. A reader in between sees the same lines twice.
"""

import fcntl
import gzip
import os
import shutil
import stat
import threading
import time
from pathlib import Path
from typing import BinaryIO, Final, cast

from callbacks import disk
from callbacks.log import get_logger
from workers.handlers.jsonl import folder

log = get_logger("callbacks.jsonl")

_UNFINISHED: Final = ".part"
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
# Neither wait for the writer of a named pipe nor follow a symbolic link, which leads to files that are not ours.
_SOURCE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK_BYTES: Final = 1 << 20
# When files that could not be compressed, for example on a full disk, are tried again.
_RETRY_SECONDS: Final = 60.0


class GzipWorker:
    """Compresses all closed files of one folder from `start` to `stop`, also those closed by other processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._wanted = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._log_at = 0.0

    def start(self) -> None:
        """Start the thread, which begins with the files that are closed already."""
        self._stopping = False
        self._wanted.set()
        self._thread = threading.Thread(target=self._work, name="jsonl-gzip", daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Say that a file was closed, so that it is compressed now."""
        self._wanted.set()

    def stop(self) -> None:
        """Stop the thread at once. A half-compressed file is removed; the next start compresses it."""
        self._stopping = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def compress_closed(self) -> None:
        """Compress all closed files, unless another process does so. Raise the first error after the last file."""
        try:
            lock = os.open(self._directory / folder.GZIP_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except FileNotFoundError:
            return  # no event was written yet
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in self._directory.glob(f"events-*{_UNFINISHED}"):
                if folder.start_stamp(left.with_suffix("")) and not left.is_dir():  # only files with our names
                    left.unlink(missing_ok=True)  # left by a process that died
            raised: list[Exception] = []
            for path in folder.list_files(self._directory):
                if path.suffix != folder.GZIP_SUFFIX and not path.is_symlink() and not self._stopping:
                    try:
                        self._compress(path)
                    except Exception as exc:  # noqa: BLE001 # an error in one file must not stop the others
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
                log.warning("gzip_failed", folder=self._directory, error=exc.strerror)
            except Exception as exc:  # noqa: BLE001 # the thread survives unexpected errors
                self._log_unexpected(exc)

    def _log_unexpected(self, exc: Exception) -> None:
        # With a traceback, so not for each closed file.
        if time.monotonic() >= self._log_at:
            self._log_at = time.monotonic() + _RETRY_SECONDS
            log.error("gzip_failed", folder=self._directory, error=type(exc).__name__, exc_info=exc)

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
                    disk.sync_file(target.fileno())
                unfinished.replace(packed)
            finally:
                unfinished.unlink(missing_ok=True)
        disk.sync_folder(self._directory)
        path.unlink(missing_ok=True)

    def _copy(self, source: BinaryIO, target: BinaryIO) -> None:
        while not self._stopping and (block := source.read(_BLOCK_BYTES)):
            target.write(block)
