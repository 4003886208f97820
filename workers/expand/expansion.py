"""Callbacks become events: each batch is read, told apart into new and known, and handed to the handlers' queues.

Promises that a batch changes everything together or nothing (I2): what was read is committed some hundred events at a
time, and each commit moves the progress of the batches it came from. A commit that fails is taken apart until the item
that does it is alone, and set aside. Knows nothing of how handlers work.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import msgspec
import redis

from shared import batches, queues
from workers.declaration import Handler
from workers.expand.chunk import Chunk, ChunkItem
from workers.expand.record_reader import RecordReader
from workers.expand.spans import ExpandSpans
from workers.failures import quarantine
from workers.filters import Filters
from workers.runtime import outcome, redis_retry
from workers.runtime.settlement import MAX_DEATHS, ClaimedJob, DeliveryPlan, FanOutEvent, FanOutResult
from workers.runtime.steps import StaleRun, Steps
from workers.runtime.worker import Unfinished

log = logging.getLogger("callbacks.expand")

# Redis runs a script alone, and everybody else waits meanwhile. Each event costs it some 7 µs, and as much again for
# each handler that it is enqueued for: so many of both together take some 7 ms.
MAX_CHUNK_WRITES: Final = 1000
# Far below the 512 MB that Redis takes for one argument, and what a client may have in its buffer; for all handlers.
MAX_CHUNK_BYTES: Final = 4 << 20
# What one run takes along. RQ spends about 7 ms on a job whatever is in it; this is a second's work at the most.
MAX_ITEMS: Final = 10_000
MAX_BYTES: Final = 8 << 20
# Small enough that several processes share one handler's work, large enough that RQ's cost for a job is spread.
EVENTS_PER_DELIVERY: Final = 100
# A sender whose replies all have one req_uuid has thousands of them a minute.
_WARN_SECONDS: Final = 60.0


class Expander:
    """Reads batches and fans out their events to `handlers`, in that order, over one connection."""

    def __init__(
        self,
        *,
        steps: Steps,
        handlers: Sequence[Handler | Filters],
        dedupe_seconds: int,
        spans: ExpandSpans | None = None,
    ) -> None:
        self._steps = steps
        self._handlers = tuple(handlers)
        self._dedupe_seconds = dedupe_seconds
        self._reader = RecordReader(self._handlers, spans)
        self._spans = spans
        self._kept: type[list[batches.Accepted] | list[batches.TracedAccepted]]
        self._kept = list[batches.Accepted] if spans is None else list[batches.TracedAccepted]
        self._warn_at, self._reused = 0.0, 0
        # While Redis carries out one commit, the next is made ready: each takes about as long as the other.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="commit")

    def run(self, *, job_id: str, arguments: Sequence[Any]) -> None:
        """Expand the running job's batch, and those waiting behind it.

        Raises StaleRun if another worker has gone on with the job, and redis.RedisError; both leave what is not
        committed to the job's next run. So does whatever else it raises: an error that no single item brings about.
        """
        claimed_jobs = self._steps.claim(
            queue=queues.EXPAND,
            job_id=job_id,
            own_arguments=arguments,
            max_items=MAX_ITEMS,
            max_bytes=MAX_BYTES,
        )
        deaths = claimed_jobs[0].deaths
        if self._spans is not None:
            self._spans.begin()
        chunk = self._new_chunk()
        in_progress: Future[None] | None = None
        try:
            for piece in self._chunk_items(claimed_jobs, deaths=deaths):
                chunk.add(piece)
                # Once a worker has died of it, each item is settled before the next is read: it shows which.
                if deaths or chunk.is_full:
                    in_progress = self._submit(in_progress, job_id, chunk)
                    if deaths:
                        in_progress.result()
                    chunk = self._new_chunk()
            in_progress = self._submit(in_progress, job_id, chunk)
        finally:
            # Whatever happens: nothing of this run is still on its way when it ends.
            try:
                if in_progress is not None:
                    in_progress.result()
            finally:
                if self._spans is not None:
                    self._spans.end()

    def _new_chunk(self, *pieces: ChunkItem) -> Chunk:
        """Return a commit that keeps Redis busy for a few milliseconds, however many handlers there are."""
        handlers = len(self._handlers)
        empty = Chunk(
            max_events=max(1, MAX_CHUNK_WRITES // (1 + handlers)), max_bytes=MAX_CHUNK_BYTES // max(1, handlers)
        )
        return empty.with_items(*pieces)

    def _chunk_items(self, claimed_jobs: Sequence[ClaimedJob], *, deaths: int) -> Iterator[ChunkItem]:
        """Yield what the run's jobs bring, in order, without what an earlier run has settled.

        If `deaths` workers died of the first item that is not settled, whichever job brings it, it is set aside unread,
        and that is the end of the matter: the failure ladder's last rung.
        """
        has_killed = deaths >= MAX_DEATHS
        for claimed, callbacks in self._readable_jobs(claimed_jobs):
            skip = done = int(claimed.progress)
            for kept in callbacks:
                if skip >= kept.records:
                    skip -= kept.records
                    continue
                origin = msgspec.structs.replace(kept, body="")
                for item in self._reader.read_items(kept, skip=skip, has_killed=has_killed):
                    piece = ChunkItem(claimed, done, origin, item)
                    done = piece.end
                    yield piece
                skip, has_killed = 0, False
            if claimed.coalesced:
                yield ChunkItem(claimed, done)

    def _readable_jobs(
        self, claimed_jobs: Sequence[ClaimedJob]
    ) -> Iterator[tuple[ClaimedJob, Sequence[batches.Accepted]]]:
        """Yield the jobs with their callbacks. One that was taken along and has another form is left to fail alone."""
        for claimed in claimed_jobs:
            try:
                _version, callbacks = claimed.arguments
                found = msgspec.convert(callbacks, self._kept)
                records = sum(kept.records for kept in found)
                if claimed.items and records != claimed.items:
                    raise ValueError(f"the job has {records} records and was counted as {claimed.items}")
            except Exception as exc:
                if not claimed.coalesced:
                    raise
                self._steps.release(queues.EXPAND, claimed_jobs[0].job_id, claimed.job_id, exc)
                continue
            yield claimed, found

    def _submit(self, earlier: Future[None] | None, job_id: str, chunk: Chunk) -> Future[None]:
        """Begin a commit when the one before it is done, as it goes on where that one ends; raise what that raised."""
        if earlier is not None:
            earlier.result()
        return self._executor.submit(self._commit_chunk, job_id, chunk)

    def _commit_chunk(self, job_id: str, chunk: Chunk) -> None:
        """Carry out a commit; if that fails, its halves, down to the one item that does it, which is set aside.

        Where it cannot be set aside either, it is not the item's doing: raises what the item raised, or that.
        """
        if not chunk.items:
            return
        if not self._steps.wait_for_room():
            raise Unfinished
        try:
            self._fan_out(job_id, chunk)
        except StaleRun:
            raise
        except Exception as exc:
            if redis_retry.is_unavailable(exc) or _is_permission_error(exc):
                raise
            if len(chunk.items) > 1:
                for half in chunk.halves():
                    self._commit_chunk(job_id, half)
                return
            (piece,) = chunk.items
            if piece.origin is None or not isinstance(piece.read, FanOutEvent):
                raise
            log.error("action=event_failed job=%s cause=%s", job_id, outcome.internal_error(exc).cause)
            entry = quarantine.from_failed_event(piece.origin, piece.read, exc)
            self._fan_out(job_id, chunk.with_items(msgspec.structs.replace(piece, read=entry)))

    def _fan_out(self, job_id: str, chunk: Chunk) -> None:
        offers, unreadable = chunk.offers, chunk.unreadable
        most = -(-len(offers) // EVENTS_PER_DELIVERY)
        fanned_out = self._steps.fan_out(
            run_id=job_id,
            settlements=chunk.settlements(),
            mark_seconds=self._dedupe_seconds,
            deliveries=[
                DeliveryPlan(handler.name, EVENTS_PER_DELIVERY, tuple(queues.new_job_id() for _ in range(most)))
                for handler in self._handlers
            ],
            events=offers,
            unreadable=unreadable,
        )
        log.debug(
            "action=fan_out new=%d duplicate=%d quarantined=%d job=%s",
            fanned_out.new,
            fanned_out.duplicate,
            sum(entry.records for entry in unreadable),
            job_id,
        )
        self._warn_of_reused_req_uuids(fanned_out)
        if self._spans is not None:
            self._spans.record_fan_out(fanned_out.groups, unreadable)

    def _warn_of_reused_req_uuids(self, fanned_out: FanOutResult) -> None:
        self._reused += fanned_out.reused
        if self._reused and time.monotonic() >= self._warn_at:
            log.warning("action=req_uuid_reused replies=%d", self._reused)
            self._warn_at, self._reused = time.monotonic() + _WARN_SECONDS, 0


def _is_permission_error(exc: Exception) -> bool:
    """Return whether Redis refused for want of rights, which it does for each item alike."""
    is_code = isinstance(exc, redis.exceptions.NoPermissionError)
    return is_code or (isinstance(exc, redis.RedisError) and "NOPERM" in str(exc))
