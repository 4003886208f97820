"""Callbacks become events: each batch is read, deduplicated, and fanned out to the handlers' queues.

Promises that a batch changes everything together or nothing (I2): what was read is fanned out in chunks of some hundred
events, and each chunk moves the progress of the batches that it came from. A chunk that fails is split until the item
with which it fails is alone, and that item is quarantined. Knows nothing of how handlers work.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import redis

from shared import batches, queues
from shared.metrics import Metrics
from shared.structured_log import get_logger
from workers.declaration import Handler
from workers.expand import forgotten as forgotten_numbers
from workers.expand.activity import ExpandActivity
from workers.expand.fan_out import Chunk, ChunkItem, FanOutResult, FanOutStep
from workers.expand.forgotten import ForgottenNumbers
from workers.expand.record_reader import RecordReader
from workers.expand.spans import ExpandSpans
from workers.failures import quarantine
from workers.filters import Filters
from workers.runtime import cooldown, outcome, redis_retry
from workers.runtime.claim import ClaimedJob, ClaimStep
from workers.runtime.redis_retry import never_stopping
from workers.runtime.run_errors import StaleRun, Unfinished
from workers.runtime.settlement import MAX_DEATHS, FanOutEvents

log = get_logger("callbacks.expand")

# While Redis runs a script, all others wait. An event takes some 3 µs, and a handler's job 22 µs, with 1 µs for each of
# its events if all of them are wanted by different handlers: so a chunk takes 1 to 4 ms for up to 100 handlers.
MAX_CHUNK_WRITES: Final = 1600
# However many handlers there are: with fewer events, their jobs would cost more than the events.
_MIN_CHUNK_EVENTS: Final = 25
# An event is stored once for all handlers. Far below Redis's limit for one argument (512 MB) and for a client's buffer.
MAX_CHUNK_BYTES: Final = 4 << 20
# Limits of one round of a run: at most a second's work.
MAX_ITEMS: Final = 10_000
MAX_BYTES: Final = 8 << 20
# Small enough for several processes to share one handler's work, large enough to spread RQ's cost per job.
EVENTS_PER_DELIVERY: Final = 100
# A sender whose replies all have one req_uuid may send thousands of them a minute.
_WARN_SECONDS: Final = 60.0


class Expander:
    """Reads batches and fans out their events to `handlers`, in that order, over one connection."""

    def __init__(
        self,
        *,
        connection: redis.Redis,
        handlers: Sequence[Handler | Filters],
        dedupe_seconds: int,
        is_stopping: Callable[[], bool] = never_stopping,
        spans: ExpandSpans | None = None,
        activity: ExpandActivity | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._connection = connection
        self._claim_step = ClaimStep(connection, queues.EXPAND)
        self._is_stopping = is_stopping
        self._fan_out_step = FanOutStep(connection, is_stopping=is_stopping)
        self._handlers = tuple(handlers)
        self._dedupe_seconds = dedupe_seconds
        self._reader = RecordReader(self._handlers, spans, metrics=metrics)
        self._spans = spans
        self._activity = activity
        self._warn_at, self._reused = 0.0, 0
        # While Redis fans out one chunk, the next is read: both take about as long.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="commit")

    def run(self, *, job_id: str, worker: str, arguments: Sequence[Any]) -> None:
        """Expand the running job's batch, and those waiting behind it; `worker` is the worker's name.

        Raise StaleRun if another worker owns the job by now, redis.RedisError, Unfinished if the worker was asked to
        stop, and any error that no single item causes. Each leaves what is not fanned out to the job's next run.
        """
        limits = {"max_items": MAX_ITEMS, "max_bytes": MAX_BYTES}
        for claimed_jobs in cooldown.rounds(
            partial(self._claim_step.claim, job_id=job_id, worker=worker, own_arguments=arguments, **limits),
            partial(self._claim_step.claim_more, job_id=job_id, worker=worker, **limits),
            is_stopping=self._is_stopping,
        ):
            self._expand(job_id, claimed_jobs)

    def _expand(self, job_id: str, claimed_jobs: Sequence[ClaimedJob]) -> None:
        """Expand the jobs of one round."""
        deaths = claimed_jobs[0].deaths
        if self._spans is not None:
            self._spans.begin()
        chunk = self._new_chunk()
        in_progress: Future[None] | None = None
        try:
            forgotten = forgotten_numbers.read(self._connection) if claimed_jobs[0].has_forgotten else None
            for item in self._chunk_items(job_id, claimed_jobs, forgotten=forgotten):
                # Once a worker has died of the job, each item is settled before the next is read: that shows which one.
                if chunk.add(item) or deaths:
                    in_progress = self._submit(in_progress, job_id, chunk)
                    if deaths:
                        in_progress.result()
                    chunk = self._new_chunk()
            in_progress = self._submit(in_progress, job_id, chunk)
        finally:
            # Whatever happens, no fan-out of this round may still be in progress when it ends.
            try:
                if in_progress is not None:
                    in_progress.result()
            finally:
                if self._spans is not None:
                    self._spans.end()

    def _new_chunk(self, *items: ChunkItem) -> Chunk:
        """Return a chunk whose limits keep Redis busy for a few milliseconds, however many handlers there are."""
        max_events = max(_MIN_CHUNK_EVENTS, MAX_CHUNK_WRITES // (1 + len(self._handlers)))
        empty = Chunk(max_events=max_events, max_bytes=MAX_CHUNK_BYTES)
        return empty.with_items(*items)

    def _chunk_items(
        self, job_id: str, claimed_jobs: Sequence[ClaimedJob], *, forgotten: ForgottenNumbers | None = None
    ) -> Iterator[ChunkItem]:
        """Yield the items of these jobs, in order, without those that an earlier run has settled.

        If MAX_DEATHS workers died of the first item that is not settled, in whichever job it is, it is quarantined
        unread: the last step of the failure ladder.
        """
        has_killed = claimed_jobs[0].deaths >= MAX_DEATHS
        for claimed, callbacks in self._readable_jobs(job_id, claimed_jobs):
            skip = done = int(claimed.progress)
            for accepted in callbacks:
                if skip >= accepted.records:
                    skip -= accepted.records
                    continue
                for read in self._reader.read_items(accepted, skip=skip, has_killed=has_killed):
                    for kept in (read,) if forgotten is None else forgotten.replace(read):
                        yield ChunkItem(claimed, done, accepted, kept)
                        done += kept.records
                skip, has_killed = 0, False
            if claimed.coalesced:
                yield ChunkItem(claimed, done)

    def _readable_jobs(
        self, job_id: str, claimed_jobs: Sequence[ClaimedJob]
    ) -> Iterator[tuple[ClaimedJob, Sequence[batches.Accepted]]]:
        """Yield the jobs with their callbacks. A coalesced job that cannot be read is released, to fail alone."""
        for claimed in claimed_jobs:
            try:
                _version, callbacks = claimed.arguments
                found = [batches.decode_callback(callback) for callback in callbacks]
                records = sum(accepted.records for accepted in found)
                if claimed.items and records != claimed.items:
                    raise ValueError(f"the job has {records} records and was counted as {claimed.items}")
            except Exception as exc:
                if not claimed.coalesced:
                    raise
                self._claim_step.release(job_id, claimed.job_id, exc)
                continue
            yield claimed, found

    def _submit(self, earlier: Future[None] | None, job_id: str, chunk: Chunk) -> Future[None]:
        """Start a fan-out after the earlier one, as it continues where that one ends; raise what that one raised."""
        if earlier is not None:
            earlier.result()
        return self._executor.submit(self._fan_out_or_split, job_id, chunk)

    def _fan_out_or_split(self, job_id: str, chunk: Chunk) -> None:
        """Fan out a chunk; if that fails, its halves, down to the one event with which it fails, which is quarantined.

        If that fails too, the event is not the cause: raise that error.
        """
        if not chunk.items:
            return
        if not self._fan_out_step.wait_for_room():
            raise Unfinished
        try:
            self._fan_out(job_id, chunk)
        except StaleRun:
            raise
        except Exception as exc:
            if redis_retry.is_unavailable(exc) or _is_permission_error(exc):
                raise
            halves = chunk.halves()
            if halves is not None:
                for half in halves:
                    self._fan_out_or_split(job_id, half)
                return
            (item,) = chunk.items
            if item.origin is None or not isinstance(item.read, FanOutEvents):
                raise
            log.error("event_failed", job=job_id, cause=outcome.internal_error(exc).cause)
            failure = quarantine.from_failed_event(item.origin, item.read.events[0], exc)
            self._fan_out(job_id, chunk.with_items(ChunkItem(item.claimed, item.start, read=failure)))

    def _fan_out(self, job_id: str, chunk: Chunk) -> None:
        offers, unreadable = chunk.offers, chunk.unreadable
        fanned_out = self._fan_out_step.fan_out(
            run_id=job_id,
            settlements=chunk.settlements(),
            mark_seconds=self._dedupe_seconds,
            handlers=[handler.name for handler in self._handlers],
            max_events=EVENTS_PER_DELIVERY,
            events=offers,
            unreadable=unreadable,
            forgotten=chunk.forgotten,
        )
        log.debug(
            "fan_out",
            new=fanned_out.new,
            duplicate=len(fanned_out.duplicates),
            quarantined=sum(failure.records for failure in unreadable),
            job=job_id,
        )
        self._warn_of_reused_req_uuids(fanned_out)
        if self._activity is not None:
            self._activity.publish(offers, unreadable, duplicates=fanned_out.duplicates)
        if self._spans is not None:
            self._spans.record_fan_out(fanned_out.groups, unreadable)

    def _warn_of_reused_req_uuids(self, fanned_out: FanOutResult) -> None:
        self._reused += fanned_out.reused
        if self._reused and time.monotonic() >= self._warn_at:
            log.warning("req_uuid_reused", replies=self._reused)
            self._warn_at, self._reused = time.monotonic() + _WARN_SECONDS, 0


def _is_permission_error(exc: Exception) -> bool:
    """Return whether Redis denied permission, which it does for all items alike."""
    is_code = isinstance(exc, redis.exceptions.NoPermissionError)
    return is_code or (isinstance(exc, redis.RedisError) and "NOPERM" in str(exc))
