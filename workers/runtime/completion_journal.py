"""What a handler has finished and Redis does not know yet, in a file that outlives its worker.

Settling takes a round trip and an fsync, so it is done a few times a second. What the handler finishes in between is
recorded here: eight bytes for each item, in a page of the file, which survive a SIGKILL and take a tenth of the time
of a system call. Maintenance reads the journal when it requeues a dead worker's job, so the job's next run calls the
handler again only with what was in flight. What is settled needs no record, so no fsync is needed either: records are
lost only if the whole machine goes down.

A worker locks its file while it lives: a file without a lock is a dead worker's. After a crash of the machine the file
may hold anything, so records of another boot are ignored.
"""

import fcntl
import functools
import mmap
import os
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from shared import disk, progress

# Positions of finished items, by the id of their job.
Completions: TypeAlias = Mapping[str, frozenset[int]]

# The file: the length of a JSON array of the boot's id and the jobs' ids, the array, then the records, eight bytes
# each. A record is the job's number and, in its lower half, the item's position in the job plus one, so the first zero
# ends the records.
_RECORD_BYTES: Final = 8
_JOBS_BYTES: Final = 512 << 10
MAX_COMPLETIONS: Final = 1 << 14
_SIZE_BYTES: Final = _RECORD_BYTES + _JOBS_BYTES + MAX_COMPLETIONS * _RECORD_BYTES
_FIRST_RECORD: Final = (_RECORD_BYTES + _JOBS_BYTES) // _RECORD_BYTES
_POSITION_BITS: Final = 32
# A new file has this in front of its name until it is locked.
UNLOCKED_PREFIX: Final = "."
_BLANK: Final = memoryview(bytes(MAX_COMPLETIONS * _RECORD_BYTES)).cast("Q")


def parse_finished(text: str) -> frozenset[int]:
    """Return the positions in a job's field `finished`: what runs that died had finished, one text for each run."""
    return frozenset().union(*(progress.parse(positions) for positions in text.split(";") if positions))


class CompletionJournal:
    """The journal of one worker. Without a file (`path` None) it ends with the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._descriptor = -1 if path is None else _create_locked(path)
        self._map = mmap.mmap(self._descriptor, _SIZE_BYTES)
        # A single word is stored at once: a SIGKILL cannot cut it in half.
        self._words = memoryview(self._map).cast("Q")
        # A child that a handler forks would hold the lock beyond the worker's death.
        os.register_at_fork(after_in_child=self._release)
        self._used = 0
        self._max_completions = MAX_COMPLETIONS

    def begin(self, job_ids: Sequence[str]) -> None:
        """Begin the records of a round with these jobs."""
        # The old records first: with the new jobs they would mean something else.
        self.clear()
        jobs = msgspec.json.encode([_boot_id(), *job_ids])
        self._max_completions = MAX_COMPLETIONS
        if len(jobs) > _JOBS_BYTES:
            # Ids of this service fit many times over. With longer ones, made by hand, each item is settled at once.
            self._max_completions, jobs = 0, msgspec.json.encode([_boot_id()])
        self._map[_RECORD_BYTES : _RECORD_BYTES + len(jobs)] = jobs
        self._words[0] = len(jobs)

    def record(self, job: int, positions: Sequence[int]) -> bool:
        """Record finished items of the job with this number in the round; return whether there was room for all.

        Once it is full it takes no more until its records are settled.
        """
        taken = positions[: self._max_completions - self._used]
        if taken:
            start, first_word = _FIRST_RECORD + self._used, (job << _POSITION_BITS) + 1
            self._used += len(taken)
            if len(taken) > 1:
                records = array("Q", [first_word + position for position in taken[1:]])
                self._words[start + 1 : start + len(taken)] = records
            # The first one last: until then nothing behind it is read, and a kill amid a copy may leave half a word.
            self._words[start] = first_word + taken[0]
        return len(taken) == len(positions)

    def clear(self) -> None:
        """Delete the records: what they say is settled."""
        # The first one first: after it nothing is read, whatever a kill leaves there.
        self._words[_FIRST_RECORD] = 0
        self._words[_FIRST_RECORD + 1 : _FIRST_RECORD + self._used] = _BLANK[1 : self._used]
        self._used = 0

    def read(self) -> Completions:
        """Return the finished items."""
        return parse(self._map[:])

    def close(self) -> None:
        """Close the file, and remove it if it has no records. May be called twice."""
        if self._map.closed:
            return
        if self._path is not None and not self._used:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        if self._map.closed:
            return
        self._words.release()
        self._map.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _create_locked(path: Path) -> int:
    unnamed = path.with_name(UNLOCKED_PREFIX + path.name)
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Allocated now: a page without room on the disk would end the process later.
        disk.allocate(descriptor, _SIZE_BYTES)
        unnamed.rename(path)
    except OSError:
        os.close(descriptor)
        unnamed.unlink(missing_ok=True)
        raise
    return descriptor


@functools.cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # another system than Linux
        return ""


def parse(data: bytes) -> Completions:
    """Return the finished items in a file's content. Raise ValueError and IndexError if it is not a journal."""
    words = memoryview(data[: len(data) // _RECORD_BYTES * _RECORD_BYTES]).cast("Q")
    found: defaultdict[int, set[int]] = defaultdict(set)
    for word in words[_FIRST_RECORD:]:
        if not word:
            break
        found[word >> _POSITION_BITS].add((word & (1 << _POSITION_BITS) - 1) - 1)
    if not found:
        return {}
    boot_id, *jobs = msgspec.json.decode(data[_RECORD_BYTES : _RECORD_BYTES + words[0]], type=list[str])
    if boot_id != _boot_id():
        return {}
    return {jobs[job]: frozenset(positions) for job, positions in found.items()}
