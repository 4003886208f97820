"""The folder of the workers' notebooks on this machine: who left one behind, and who lives."""

import fcntl
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from workers.running.notebook import UNNAMED, Notebook, Notes, read

log = logging.getLogger("callbacks.worker")

_UNNAMED_SECONDS: Final = 60.0
_FORGOTTEN_SECONDS: Final = 86_400.0


class Notebooks:
    """The notebooks of the workers on this machine, in a folder; None: there are none.

    Workers of several services may share it. Their names are unique.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._left: set[str] = set()

    @classmethod
    def of(cls, run_dir: str) -> Self:
        """Give those in the folder that CALLBACKS_RUN_DIR names; empty: none."""
        return cls(Path(run_dir) if run_dir else None)

    def open(self, worker: str) -> Notebook:
        """Give a worker its notebook; one without a file where none can be had."""
        if self._folder is None:
            return Notebook()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return Notebook(self._folder / worker)
        except OSError as exc:
            log.warning("action=notebook_missing folder=%s error=%s", self._folder, exc)
            return Notebook()

    def read(self, worker: str) -> Notes:
        """Give what a worker that ended has noted."""
        if self._folder is None or not worker:
            return {}
        try:
            return read((self._folder / worker).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, IndexError) as exc:
            log.warning("action=notebook_unreadable worker=%s error=%s", worker, type(exc).__name__)
            return {}

    def present(self) -> Iterator[tuple[str, bool]]:
        """Give the names of the workers that have a notebook here, whosoever they are, and whether they live."""
        try:
            paths = list(self._folder.iterdir()) if self._folder is not None else []
        except OSError:
            return
        for path in paths:
            if path.name.startswith(UNNAMED):
                if _age_seconds(path) > _UNNAMED_SECONDS:
                    self.discard(path.name)  # its worker never came to lock it
            elif path.name not in self._left:
                yield path.name, not _is_free(path)

    def is_forgotten(self, worker: str) -> bool:
        """Tell whether a dead worker's notebook may go although nobody knows the worker: it is empty, or a day old."""
        return not self.read(worker) or (
            self._folder is not None and _age_seconds(self._folder / worker) > _FORGOTTEN_SECONDS
        )

    def discard(self, worker: str) -> None:
        """Throw a dead worker's notebook away: Redis has what it says."""
        if self._folder is None:
            return
        try:
            (self._folder / worker).unlink(missing_ok=True)
        except OSError as exc:
            self._left.add(worker)
            log.warning("action=notebook_left worker=%s error=%s", worker, exc)


def _is_free(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
