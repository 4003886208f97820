"""The files of the handler `jsonl`: open, closed and compressed ones are rewritten without the lines with a number."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shared.number_search import NumberSearch
from workers.handlers.jsonl import folder
from workers.personal_data import file_lines
from workers.personal_data.report import FoundItem, StoreResult, parse_line

_UNTIL: Final = "until the file is removed"
# Files are compressed one after the other; each takes seconds.
_LOCK_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1


class JsonlFiles:
    """The files in one folder."""

    name = "jsonl"

    def __init__(self, directory: Path, search: NumberSearch) -> None:
        self._directory = directory
        self._search = search

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Rewrite each file that has lines with a number. Workers continue in a new file."""
        found = erased = 0
        failed: list[str] = []
        if not self._directory.is_dir():
            return StoreResult(store=self.name)
        try:
            with self._no_compression():
                for path in folder.list_files(self._directory):
                    try:
                        number = sum(1 for _ in file_lines.find_lines(path, self._search))
                        found += number
                        if number and not dry_run:
                            erased += self._rewrite(path)
                    except FileNotFoundError:
                        continue  # it was moved away just now
                    except OSError as exc:
                        failed.append(f"{path}: {exc.strerror or exc}")
        except OSError as exc:
            failed.append(f"{self._directory}: {exc.strerror or exc}")
        found = max(found, erased)
        left = 0 if dry_run else found - erased
        why = "; ".join(failed)
        return StoreResult(store=self.name, found=found, erased=erased, left=left, why=why, failed=bool(failed))

    def export(self) -> Iterator[FoundItem]:
        """Yield each line that mentions a number. Raise OSError, after the last file, which names what is damaged."""
        if not self._directory.is_dir():
            return
        failed: list[str] = []
        for path in folder.list_files(self._directory):
            try:
                for line in file_lines.find_lines(path, self._search):
                    yield FoundItem(where=str(path), until=_UNTIL, content=parse_line(line))
            except FileNotFoundError:
                continue  # it was moved away just now
            except OSError as exc:
                failed.append(f"{path}: {exc.strerror or exc}")
        if failed:
            raise OSError("; ".join(failed))

    def _rewrite(self, path: Path) -> int:
        if folder.is_closed(path.stat()):
            return file_lines.remove_lines(path, self._search)
        # All writers wait meanwhile. The new file is closed, so they begin another.
        with folder.lock_folder(self._directory):
            return file_lines.remove_lines(path, self._search, before_rename=_close)

    @contextmanager
    def _no_compression(self) -> Iterator[None]:
        """Hold the lock of those that compress closed files. Raise TimeoutError."""
        lock = os.open(self._directory / folder.GZIP_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise TimeoutError(0, "another process compresses its files: run it again later") from None
                    time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(lock)


def _close(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        folder.mark_closed(opened)
    finally:
        os.close(opened)
