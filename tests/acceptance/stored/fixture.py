"""The fixture of a release: what it stored, as one file of JSON, and how it is written and restored.

    .venv/bin/python -m tests.acceptance.stored.fixture

runs the service of this working tree through its history, and writes the fixture of the version in pyproject.toml.
"""

import json
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from shared import keys
from tests import marks
from tests.acceptance.processes import REPOSITORY
from tests.acceptance.stored import folder_files, redis_values
from tests.acceptance.stored.history import History
from tests.redis_server import RedisServer

FOLDER: Final = REPOSITORY / "tests" / "payloads" / "stored"
COMMAND: Final = "run: .venv/bin/python -m tests.acceptance.stored.fixture"
# What processes write in their folder and nobody reads.
_NOT_STORED: Final = (".log", ".waits")


def paths() -> list[Path]:
    """Return the fixtures of all releases, the newest last."""
    return sorted(FOLDER.glob("*.json"), key=lambda path: [int(part) for part in path.stem.split(".")])


def read(path: Path) -> dict[str, Any]:
    """Return a fixture: `written_ms`, `redis` and `files`."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def restore(stored: dict[str, Any], client: Any, folder: Path) -> None:
    """Write a fixture into an empty Redis and a folder, as if it had been stored just now."""
    redis_values.write(client, stored["redis"])
    folder_files.write(folder, stored["files"])
    # Failures are dropped after a year, and marks of events end: both would be over some time after a release.
    now_ms = time.time_ns() // 1_000_000
    marks.age(client, stored["written_ms"] - now_ms)
    for index in _failure_indexes(stored["redis"]):
        client.zadd(index, dict.fromkeys(client.zrange(index, 0, -1), now_ms))


def write_down(path: Path) -> None:
    """Run the history, and write the fixture of what it leaves."""
    with tempfile.TemporaryDirectory() as work, RedisServer() as server:
        folder = Path(work)
        History(folder, server).play()
        with server.client(decode_responses=False) as client:
            stored = redis_values.read(client)
        files = {name: one for name, one in folder_files.read(folder).items() if not name.endswith(_NOT_STORED)}
    text = json.dumps({"written_ms": time.time_ns() // 1_000_000, "redis": stored, "files": files}, indent=1)
    path.write_text(f"{text}\n", encoding="utf-8")


def version() -> str:
    """Return the version of this working tree."""
    found: str = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return found


def _failure_indexes(stored: dict[str, Any]) -> Iterator[str]:
    for name, one in stored.items():
        if one["type"] == "zset" and name.startswith((keys.QUARANTINE, "cb:dead:")):
            yield name


if __name__ == "__main__":
    write_down(FOLDER / f"{version()}.json")
    sys.stdout.write(f"{FOLDER / version()}.json\n")
