"""What a handler has finished and Redis does not know yet, in a file that outlives its worker.

Settling takes a round trip and an fsync, so it is done a few times a second. What the handler finishes in between is
noted here: one store of eight bytes into a page of the file, which no SIGKILL takes back, at a tenth of the price of a
system call. Whoever gives a dead worker's job back reads the notes (see `housekeeping`), so that the job's next run
calls the handler again with nothing but what was in its hands. What is settled needs no note, so no fsync is needed
either: only where the whole machine goes down are notes lost.

A worker locks its file for as long as it lives: a file that nobody locks is a dead worker's.
"""

import fcntl
import hashlib
import logging
import mmap
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self, TypeAlias

import msgspec

from shared import progress

log = logging.getLogger("callbacks.worker")

# Places of finished items, by the id of the job that brought them.
Notes: TypeAlias = Mapping[str, frozenset[int]]

# The file: the length of a JSON array of job ids, the array, and then the notes, eight bytes each. A note is the job's
# place in the array and, in its lower half, the item's place in the job plus one; so the first zero ends the notes.
_NOTE_BYTES: Final = 8
_JOBS_BYTES: Final = 512 << 10
MOST_NOTES: Final = 1 << 14
_SIZE_BYTES: Final = _NOTE_BYTES + _JOBS_BYTES + MOST_NOTES * _NOTE_BYTES
_FIRST_NOTE: Final = (_NOTE_BYTES + _JOBS_BYTES) // _NOTE_BYTES
_PLACE_BITS: Final = 32
# While a file is made it is nobody's yet: it gets its name when it is locked.
_UNNAMED: Final = "."
_UNNAMED_SECONDS: Final = 60.0
_BLANK: Final = memoryview(bytes(MOST_NOTES * _NOTE_BYTES)).cast("Q")


def to_text(notes: Notes) -> str:
    """Give notes as they stand in a job's field `finished`: a line for each job, its id and the places."""
    return "".join(f"{job_id} {progress.write(places)}\n" for job_id, places in notes.items())


def from_text(text: str) -> Notes:
    """Read the notes of a job's field `finished`, to which several runs may have added."""
    found: defaultdict[str, frozenset[int]] = defaultdict(frozenset)
    for line in text.splitlines():
        job_id, _, places = line.rpartition(" ")
        found[job_id] |= progress.read(places)
    return found


class Notebook:
    """One worker's notes. Without a file (`path` None) they end with the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._descriptor = -1 if path is None else _locked(path)
        self._map = mmap.mmap(self._descriptor, _SIZE_BYTES)
        # Stored as whole words: the processor finishes one or has not begun, wherever a SIGKILL falls.
        self._words = memoryview(self._map).cast("Q")
        self._used = 0
        self._most = MOST_NOTES

    @property
    def is_full(self) -> bool:
        """Whether it takes no further note until what it has is settled."""
        return self._used >= self._most

    def begin(self, job_ids: Sequence[str]) -> None:
        """Begin the notes of a run over these jobs."""
        # The old notes first: with the new jobs they would say something else.
        self.clear()
        jobs = msgspec.json.encode(job_ids)
        self._most = MOST_NOTES
        if len(jobs) > _JOBS_BYTES:
            # Ids of ours fit many times over. With longer ones, by another's hand, each item is settled at once.
            self._most, jobs = 0, b"[]"
        self._map[_NOTE_BYTES : _NOTE_BYTES + len(jobs)] = jobs
        self._words[0] = len(jobs)

    def note(self, job: int, place: int) -> None:
        """Note that the item at `place` of the run's job number `job` is finished. Not while it is full."""
        self._words[_FIRST_NOTE + self._used] = job << _PLACE_BITS | place + 1
        self._used += 1

    def clear(self) -> None:
        """Forget the notes: what they say is settled."""
        # Torn by a kill, this leaves notes that are settled too, and nobody writes behind them any more.
        self._words[_FIRST_NOTE : _FIRST_NOTE + self._used] = _BLANK[: self._used]
        self._used = 0

    def read(self) -> Notes:
        """Give the notes."""
        return _read(self._map[:])

    def close(self) -> None:
        """Let go of the file, and remove it if nothing is noted in it. May be called twice."""
        if self._map.closed:
            return
        if self._path is not None and not self._used:
            self._path.unlink(missing_ok=True)
        self._words.release()
        self._map.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)


class Notebooks:
    """The notebooks of the workers of one Redis on this machine, in a folder; None: there are none."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @classmethod
    def of(cls, run_dir: str, redis_url: str) -> Self:
        """Give those in `run_dir`, apart from the workers of other Redis servers; empty: none."""
        if not run_dir:
            return cls()
        return cls(Path(run_dir) / hashlib.sha256(redis_url.encode()).hexdigest()[:16])

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
            return _read((self._folder / worker).read_bytes())
        except OSError:
            return {}

    def abandoned(self) -> Iterator[str]:
        """Give the names of the workers that died and left a notebook behind, whosoever they were."""
        if self._folder is None or not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if _is_free(path):
                if path.name.startswith(_UNNAMED):
                    _remove_if_old(path)
                else:
                    yield path.name

    def discard(self, worker: str) -> None:
        """Throw a dead worker's notebook away: Redis has what it says."""
        if self._folder is not None:
            (self._folder / worker).unlink(missing_ok=True)


def _locked(path: Path) -> int:
    unnamed = path.with_name(_UNNAMED + path.name)
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Room for all of it now: a page that finds none later would end the process.
        os.posix_fallocate(descriptor, 0, _SIZE_BYTES)
        unnamed.rename(path)
    except OSError:
        os.close(descriptor)
        unnamed.unlink(missing_ok=True)
        raise
    return descriptor


def _is_free(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_if_old(path: Path) -> None:
    # Its worker may be about to lock it.
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > _UNNAMED_SECONDS:
            path.unlink()


def _read(data: bytes) -> Notes:
    words = memoryview(data[: len(data) // _NOTE_BYTES * _NOTE_BYTES]).cast("Q")
    found: defaultdict[int, set[int]] = defaultdict(set)
    for word in words[_FIRST_NOTE:]:
        if not word:
            break
        found[word >> _PLACE_BITS].add((word & (1 << _PLACE_BITS) - 1) - 1)
    if not found:
        return {}
    jobs = msgspec.json.decode(data[_NOTE_BYTES : _NOTE_BYTES + words[0]], type=list[str])
    return {jobs[job]: frozenset(places) for job, places in found.items()}
