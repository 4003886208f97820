"""The files of a folder as JSON: databases of SQLite as SQL, texts as text, all others compressed; and back.

A completion journal counts only within one boot of its machine, so it is stored with a placeholder for the boot's id.
"""

import base64
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeAlias

# `text`, `sql` or `zlib` (base64), and `mode`.
StoredFile: TypeAlias = dict[str, Any]

_SQLITE: Final = b"SQLite format 3\0"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PLACEHOLDER: Final = b"00000000-0000-0000-0000-000000000000"


def read(folder: Path) -> dict[str, StoredFile]:
    """Return every file below `folder` that is not empty, by its path."""
    return {str(path.relative_to(folder)): _read_file(path) for path in sorted(_files(folder))}


def write(folder: Path, stored: Mapping[str, StoredFile]) -> None:
    """Write what `read` returned, in place of what is there."""
    for name, one in stored.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if "sql" in one:
            with closing(sqlite3.connect(path)) as database:
                database.executescript(one["sql"])
        elif "text" in one:
            path.write_text(one["text"], encoding="utf-8", newline="")
        else:
            path.write_bytes(zlib.decompress(base64.b64decode(one["zlib"])).replace(_PLACEHOLDER, _boot_id()))
        path.chmod(one["mode"])


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        # The log of a database is in what SQLite reads.
        if path.is_file() and path.stat().st_size and not path.name.endswith(("-wal", "-shm")):
            yield path


def _read_file(path: Path) -> StoredFile:
    mode, content = path.stat().st_mode & 0o777, path.read_bytes()
    if content.startswith(_SQLITE):
        with closing(sqlite3.connect(path)) as database:
            return {"mode": mode, "sql": "\n".join(database.iterdump())}
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text:
        return {"mode": mode, "text": text}
    packed = zlib.compress(content.replace(_boot_id(), _PLACEHOLDER), 9)
    return {"mode": mode, "zlib": base64.b64encode(packed).decode()}


def _boot_id() -> bytes:
    return _BOOT_ID.read_bytes().strip()
