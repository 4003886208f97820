"""What the tests of the handlers `jsonl` and `stream` share: processes that hold one, and what the files say."""

import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callbacks import Event
from shared import events
from tests.environment import stripped_environment

REPOSITORY = Path(__file__).parents[2]
# Each line on stdin is a batch; the answer is that it was taken, or what went wrong.
_WORKER = """
import importlib, os, signal, sys, resource
from shared import events
module = importlib.import_module(sys.argv[1])
take = getattr(module, sys.argv[2])
exec(sys.argv[3])
with take.callbacks_handler.lifespan():
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            take(events.decode(line))
            print("taken", flush=True)
        except BaseException as exc:
            print(type(exc).__name__, exc, flush=True)
"""


class Process:
    """A handler in a process of its own; `prelude` is Python that runs in it first."""

    def __init__(self, module: str, function: str, *, prelude: str = "", **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, module, function, prelude],
            cwd=REPOSITORY,
            env={**stripped_environment(), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "ready"

    def say(self, *batches: Sequence[Event]) -> None:
        assert self._process.stdin is not None
        for batch in batches:
            self._process.stdin.write("[" + ",".join(events.encode(event).decode() for event in batch) + "]\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def answers(self) -> list[str]:
        """Let it come to its end, and give what it has said since it was last asked."""
        out, _ = self._process.communicate(timeout=120)
        return out.splitlines()

    def ended(self) -> int:
        """Return its exit code; minus the number of the signal that killed it."""
        self._process.communicate(timeout=120)
        return self._process.returncode

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=60)


def of_folder(folder: Path) -> list[Path]:
    """Return the files of events, the oldest first."""
    return sorted(folder.glob("events-*.jsonl*"), key=lambda path: path.name.removesuffix(".gz"))


def lines(folder: Path) -> list[str]:
    """Return every line of every file, packed or not, in the order in which they were written."""
    found: list[str] = []
    for path in of_folder(folder):
        data = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()
        assert data == "" or data.endswith("\n")
        found += data.split("\n")[:-1]
    return found


def written(folder: Path) -> list[dict[str, Any]]:
    """Return every line as a reader of JSON lines sees it."""
    return [json.loads(line) for line in lines(folder)]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
