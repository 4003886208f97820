"""The file of the handler `log`: rewritten without the lines with a number, if it writes whole numbers."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shared.number_search import NumberSearch
from workers.personal_data import file_lines
from workers.personal_data.report import FoundItem, StoreResult, parse_line

_UNTIL: Final = "until the file is removed or rotated"
_MASKED: Final = (
    "lines with a masked number stay, and with them the texts of replies: nothing says whose they are; rotate the file"
)


class LogFile:
    """The file at `path`; `masked`: the handler masks numbers now."""

    name = "log"

    def __init__(self, path: Path, search: NumberSearch, *, masked: bool) -> None:
        self._path = path
        self._search = search
        self._masked = masked

    def erase(self, *, dry_run: bool) -> StoreResult:
        """Rewrite the file if a line has a number. Workers wait meanwhile, then write to the new file."""
        if not self._path.is_file():
            return StoreResult(store=self.name)
        why = _MASKED if self._masked else ""
        try:
            found = sum(1 for _ in file_lines.find_lines(self._path, self._search))
            erased = self._rewrite() if found and not dry_run else 0
        except OSError as exc:
            return StoreResult(store=self.name, why=f"{self._path}: {exc.strerror}", failed=True)
        found = max(found, erased)
        return StoreResult(store=self.name, found=found, erased=erased, left=0 if dry_run else found - erased, why=why)

    def export(self) -> Iterator[FoundItem]:
        """Yield each line that mentions a number. Raise OSError."""
        if self._path.is_file():
            for line in file_lines.find_lines(self._path, self._search):
                yield FoundItem(where=str(self._path), until=_UNTIL, content=parse_line(line))

    def _rewrite(self) -> int:
        opened = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)  # released by close
            return file_lines.remove_lines(self._path, self._search)
        finally:
            os.close(opened)
