"""Python files below some folders, and which of them have changed: read once a second, so that it needs no library."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

# Where projects keep what is not their own code, next to folders whose names begin with a dot.
_NOT_SOURCES: Final = frozenset(("__pycache__", "node_modules", "site-packages", "var"))
# More than a project has, but not than a home folder has. Reading them takes some 50 ms.
_MAX_FILES: Final = 5_000
_MAX_FOLDERS: Final = 1_000

_Version: TypeAlias = tuple[int, int, int]


class SourceFiles:
    """The files as they were at the last call."""

    def __init__(self, folders: Iterable[str]) -> None:
        self.folders = frozenset(folders)
        self._versions = _read_versions(self.folders)

    def add_folders(self, folders: Iterable[str]) -> None:
        """Watch these folders too, as they are now."""
        new = frozenset(folders) - self.folders
        self.folders |= new
        self._versions |= _read_versions(new)

    def find_changes(self) -> list[Path]:
        """Return the files that were written, made or removed since the last call, sorted."""
        before, self._versions = self._versions, _read_versions(self.folders)
        return sorted(
            Path(path) for path in before.keys() | self._versions.keys() if before.get(path) != self._versions.get(path)
        )


def _read_versions(folders: Iterable[str]) -> dict[str, _Version]:
    versions: dict[str, _Version] = {}
    for entry in _list_files(folders):
        try:
            status = entry.stat()
        except OSError:  # removed meanwhile
            continue
        versions[entry.path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        if len(versions) == _MAX_FILES:
            break
    return versions


def _list_files(folders: Iterable[str]) -> Iterator["os.DirEntry[str]"]:
    """Yield the Python files, those of a folder before those below it, of _MAX_FOLDERS folders."""
    left = deque(folders)
    for _ in range(_MAX_FOLDERS):
        if not left:
            return
        try:
            entries = list(os.scandir(left.popleft()))
        except OSError:  # removed meanwhile, or not ours to read
            continue
        if any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name not in _NOT_SOURCES:
                    left.append(entry.path)
            elif entry.name.endswith(".py"):
                yield entry
