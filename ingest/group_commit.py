"""Group commit: callbacks that arrive while a commit is under way share the next one.

One asyncio task writes batches one after the other; whoever waits is answered when the batch that holds its callback
is durable, never before (I1). Idle, a callback is committed alone at once; busy, batches grow by themselves.
It knows nothing of Redis or HTTP: a Store writes, and says StoreUnavailable when it cannot.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from ingest import log
from shared.background import is_cancelled
from shared.batches import Accepted, Quarantined
from shared.errors import StoreUnavailable

BatchEntry: TypeAlias = Accepted | Quarantined

# A job of 500 callbacks is a second's work for a slow worker; 1 MiB is written and fsynced in a few milliseconds.
MAX_CALLBACKS: Final = 500
MAX_BYTES: Final = 1 << 20


class Store(Protocol):
    """Where batches go. Another one may stand in front, and take what this one cannot."""

    async def write(self, batch: Sequence[BatchEntry]) -> None:
        """Make all of `batch` durable, or raise StoreUnavailable; it may then be stored all the same, or not."""

    async def close(self) -> None:
        """Give back what was opened. Nothing is written afterwards."""


@dataclass(frozen=True, slots=True, eq=False)
class PendingEntry:
    """An entry, the size of its body, and the future that its request waits for."""

    entry: BatchEntry
    size_bytes: int
    done: asyncio.Future[None]


class GroupCommit:
    """Collects entries into batches for `store`. `run` must be running as a task while `accept` is called."""

    def __init__(self, store: Store, *, max_callbacks: int = MAX_CALLBACKS, max_bytes: int = MAX_BYTES) -> None:
        self._store = store
        self._max_callbacks = max_callbacks
        self._max_bytes = max_bytes
        self._waiting: deque[PendingEntry] = deque()
        self._arrived = asyncio.Event()
        self._closing = False

    async def accept(self, entry: BatchEntry, size_bytes: int) -> None:
        """Return when `entry` is durable. Raises StoreUnavailable.

        The caller bounds how much waits here. One that is cancelled leaves its entry in the batch, unharmed.
        """
        if self._closing:
            raise StoreUnavailable("shutting down")
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(PendingEntry(entry, size_bytes, done))
        self._arrived.set()
        await done

    async def run(self) -> None:
        """Write batches until `close` was called and nothing waits any more.

        Ended by a fault it may be called again; what waits meanwhile is for `fail_pending`.
        """
        while self._waiting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch: Sequence[PendingEntry] = ()
            try:
                batch = take_batch(self._waiting, max_callbacks=self._max_callbacks, max_bytes=self._max_bytes)
                await self._commit(batch)
            except BaseException:
                # Nobody has these in hand any more, so nobody would answer them.
                _refuse(batch, StoreUnavailable("a fault while it was stored"))
                raise

    def fail_pending(self) -> None:
        """Answer all that wait that they are not kept, as `run` has failed: they do not wait for it to work again."""
        waiting, self._waiting = self._waiting, deque()
        _refuse(waiting, StoreUnavailable("a fault while it was stored"))

    def close(self) -> None:
        """Take nothing more; `run` returns when all that waits was answered."""
        self._closing = True
        self._arrived.set()

    async def _commit(self, batch: Sequence[PendingEntry]) -> None:
        try:
            await self._store.write([waiting.entry for waiting in batch])
        except StoreUnavailable as exc:
            _refuse(batch, exc)
        except (Exception, asyncio.CancelledError) as exc:  # the declared boundary around a batch's commit
            if isinstance(exc, asyncio.CancelledError) and is_cancelled():
                raise
            log.unexpected_error("commit", exc)
            if len(batch) == 1:
                _refuse(batch, StoreUnavailable("a fault while it was stored"))
                return
            # One of them may have caused it, so its siblings get a chance without it.
            for waiting in batch:
                await self._commit([waiting])
        else:
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_result(None)


def take_batch(waiting: deque[PendingEntry], *, max_callbacks: int, max_bytes: int) -> list[PendingEntry]:
    """Take the next batch off `waiting`, oldest first, within both limits. A larger one alone is a batch of its own."""
    batch = [waiting.popleft()]
    size_bytes = batch[0].size_bytes
    while waiting and len(batch) < max_callbacks and size_bytes + waiting[0].size_bytes <= max_bytes:
        size_bytes += waiting[0].size_bytes
        batch.append(waiting.popleft())
    return batch


def _refuse(batch: Iterable[PendingEntry], why: StoreUnavailable) -> None:
    for waiting in batch:
        if not waiting.done.done():
            # One for each: an exception raised in several tasks would gather all of their tracebacks.
            waiting.done.set_exception(StoreUnavailable(str(why), retry_after_seconds=why.retry_after_seconds))
