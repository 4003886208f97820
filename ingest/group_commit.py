"""Group commit: callbacks that arrive while a commit is under way share the next one.

One asyncio task writes batches one after the other. A request waits until the batch that holds its callback is durable
(I1). Without load a callback is committed by itself at once; under load batches grow by themselves, and a cooldown
between them makes them larger. This module knows nothing of Redis or HTTP: a Store writes, and raises StoreUnavailable
when it cannot.
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from ingest import log
from shared.background import is_cancelled
from shared.batches import Accepted, Quarantined
from shared.errors import StoreUnavailable

BatchEntry: TypeAlias = Accepted | Quarantined
Destination: TypeAlias = Literal["redis", "spool"]

# A slow worker needs a second for a job of 500 callbacks; 1 MiB is written and synced in a few milliseconds.
MAX_CALLBACKS: Final = 500
MAX_BYTES: Final = 1 << 20
# A commit costs this process 360,000 instructions and Redis an fsync, for one callback as for fifty. So after a batch
# of this many the next begins no sooner than the cooldown after it began. An answer may come this much later.
LOAD_CALLBACKS: Final = 24
COOLDOWN_SECONDS: Final = 0.002

# What is said of an entry with which our own code fails.
UNEXPECTED: Final = "unexpected error while it was stored"


class Store(Protocol):
    """Where batches go. A store may wrap another, and take what the other cannot."""

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        """Make all of `batch` durable and return where, or raise StoreUnavailable: then it may be stored or not."""

    async def close(self) -> None:
        """Close what was opened. Nothing is written afterwards."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Where a batch was stored, and how many entries it had."""

    destination: Destination
    entries: int


class PendingEntry(Struct, frozen=True, eq=False, gc=False):
    """An entry that waits for its commit, the size of its body, and the future that its request awaits."""

    entry: BatchEntry
    size_bytes: int
    done: asyncio.Future[Commit]


class GroupCommit:
    """Collects entries into batches for `store`. `run` must be running as a task while `accept` is called."""

    def __init__(self, store: Store, *, max_callbacks: int = MAX_CALLBACKS, max_bytes: int = MAX_BYTES) -> None:
        self._store = store
        self._max_callbacks = max_callbacks
        self._max_bytes = max_bytes
        self._waiting: deque[PendingEntry] = deque()
        self._arrived = asyncio.Event()
        self._closing = False

    def accept(self, entry: BatchEntry, size_bytes: int) -> Awaitable[Commit]:
        """Return an awaitable that ends when `entry` is durable, with the commit that it was part of.

        The awaitable raises StoreUnavailable, and once this process shuts down this method does.

        The caller limits how much waits here. If the caller is cancelled, its entry is committed nevertheless.
        """
        return self._enqueue(entry, size_bytes)

    async def accept_all(self, entries: Iterable[tuple[BatchEntry, int]]) -> None:
        """Do as `accept` for several entries with their sizes: return when all of them are durable."""
        await asyncio.gather(*(self._enqueue(entry, size_bytes) for entry, size_bytes in entries))

    async def run(self) -> None:
        """Write batches until `close` was called and nothing waits.

        After an unexpected error it may be called again; `fail_pending` answers what waits meanwhile.
        """
        while self._waiting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch: Sequence[PendingEntry] = ()
            began = time.monotonic()
            try:
                batch = take_batch(self._waiting, max_callbacks=self._max_callbacks, max_bytes=self._max_bytes)
                await self._commit(batch)
            except BaseException:
                # They are in no queue any more, so nothing else would answer them.
                _fail(batch, StoreUnavailable(UNEXPECTED))
                raise
            if len(batch) >= LOAD_CALLBACKS:
                await asyncio.sleep(began + COOLDOWN_SECONDS - time.monotonic())

    def fail_pending(self) -> None:
        """Raise StoreUnavailable in all that wait, as `run` has failed: they shall not wait until it works again."""
        waiting, self._waiting = self._waiting, deque()
        _fail(waiting, StoreUnavailable(UNEXPECTED))

    def close(self) -> None:
        """Accept nothing more. `run` returns when all that waits was answered."""
        self._closing = True
        self._arrived.set()

    @functools.cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()  # each time it is asked, it asks the system for the process's id

    def _enqueue(self, entry: BatchEntry, size_bytes: int) -> asyncio.Future[Commit]:
        if self._closing:
            raise StoreUnavailable("shutting down")
        done: asyncio.Future[Commit] = self._loop.create_future()
        self._waiting.append(PendingEntry(entry, size_bytes, done))
        self._arrived.set()
        return done

    async def _commit(self, batch: Sequence[PendingEntry]) -> None:
        try:
            destination = await self._store.write([waiting.entry for waiting in batch])
        except StoreUnavailable as exc:
            _fail(batch, exc)
        except (Exception, asyncio.CancelledError) as exc:  # the declared boundary around a batch's commit
            if isinstance(exc, asyncio.CancelledError) and is_cancelled():
                raise
            log.unexpected_error("commit", exc)
            if len(batch) == 1:
                _fail(batch, StoreUnavailable(UNEXPECTED))
                return
            # One of them may have caused it, so each is tried alone.
            for waiting in batch:
                await self._commit([waiting])
        else:
            commit = Commit(destination, len(batch))
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_result(commit)


def take_batch(waiting: deque[PendingEntry], *, max_callbacks: int, max_bytes: int) -> list[PendingEntry]:
    """Remove the next batch from `waiting`, oldest first, within both limits, and return it.

    An entry that exceeds `max_bytes` is a batch of its own.
    """
    batch = [waiting.popleft()]
    size_bytes = batch[0].size_bytes
    while waiting and len(batch) < max_callbacks and size_bytes + waiting[0].size_bytes <= max_bytes:
        size_bytes += waiting[0].size_bytes
        batch.append(waiting.popleft())
    return batch


def _fail(batch: Iterable[PendingEntry], why: StoreUnavailable) -> None:
    for waiting in batch:
        if not waiting.done.done():
            # A new exception for each: one that is raised in several tasks would collect all of their tracebacks.
            waiting.done.set_exception(StoreUnavailable(str(why), retry_after_seconds=why.retry_after_seconds))
