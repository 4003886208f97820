"""The folder with the completion journals of this machine's workers, which shows who is alive and who has died.

Others may use the folder too, such as /run or the current one. A file is a journal if it is a regular file named
`<queue>-<32 hex digits>`: nothing else there is opened, locked or removed.
"""

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from shared import queues
from shared.structured_log import get_logger
from workers.runtime.completion_journal import UNLOCKED_PREFIX, CompletionJournal, Completions, parse

log = get_logger("callbacks.worker")

_UNLOCKED_SECONDS: Final = 60.0
_EXPIRY_SECONDS: Final = 86_400.0
# As the supervisor names its workers; with the prefix until the worker has locked it.
_QUEUE: Final = rf"(?:{queues.EXPAND}|{queues.delivery_queue('[A-Za-z0-9_-]{1,64}')})"
_NAME: Final = re.compile(rf"{re.escape(UNLOCKED_PREFIX)}?{_QUEUE}-[0-9a-f]{{32}}")
# Opening a named pipe would block, and a symbolic link may lead to a file of another program.
_SAFE_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class JournalFolder:
    """The journals of the workers on this machine, in a folder; None: there are none.

    Workers of several services may share it, because their names are unique.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._not_removed: set[str] = set()

    @classmethod
    def from_run_dir(cls, run_dir: str) -> Self:
        """Return the folder that CALLBACKS_RUN_DIR names; empty: no folder."""
        return cls(Path(run_dir) if run_dir else None)

    def open(self, worker: str) -> CompletionJournal:
        """Return a worker's new journal; one without a file if none can be made."""
        if self._folder is None:
            return CompletionJournal()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return CompletionJournal(self._folder / worker)
        except OSError as exc:
            log.warning("journal_not_created", folder=self._folder, error=exc)
            return CompletionJournal()

    def read(self, worker: str) -> Completions:
        """Return what a worker that has ended recorded as finished."""
        if self._folder is None or not _NAME.fullmatch(worker):
            return {}
        try:
            return _read_file(self._folder / worker)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, IndexError) as exc:
            log.warning("journal_unreadable", worker=worker, error=type(exc).__name__)
            return {}

    def list_workers(self) -> Iterator[tuple[str, bool]]:
        """Yield the names of all workers that have a journal here, of any service, and whether they are alive."""
        try:
            paths = list(self._folder.iterdir()) if self._folder is not None else []
        except OSError:
            return
        for path in paths:
            if not _is_ours(path):
                continue
            if path.name.startswith(UNLOCKED_PREFIX):
                if _age_seconds(path) > _UNLOCKED_SECONDS:
                    self.remove(path.name)  # its worker never locked it
            elif path.name not in self._not_removed:
                yield path.name, not _is_unlocked(path)

    def is_expired(self, worker: str) -> bool:
        """Return whether the journal of a dead worker that Redis does not know may go: it is empty, or a day old."""
        return not self.read(worker) or (
            self._folder is not None and _age_seconds(self._folder / worker) > _EXPIRY_SECONDS
        )

    def remove(self, worker: str) -> None:
        """Remove a dead worker's journal: Redis has what it says."""
        if self._folder is None or not _NAME.fullmatch(worker):
            return
        try:
            (self._folder / worker).unlink(missing_ok=True)
        except OSError as exc:
            self._not_removed.add(worker)
            log.warning("journal_not_removed", worker=worker, error=exc)


def _is_ours(path: Path) -> bool:
    try:
        return _NAME.fullmatch(path.name) is not None and stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _read_file(path: Path) -> Completions:
    with os.fdopen(os.open(path, _SAFE_OPEN_FLAGS), "rb") as file:
        return parse(file.read()) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else {}


def _is_unlocked(path: Path) -> bool:
    try:
        opened = os.open(path, _SAFE_OPEN_FLAGS)
    except OSError:
        return False
    try:
        # Checked again: it may have been replaced since its name was read.
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return False
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(opened)
    return True


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0
