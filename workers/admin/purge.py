"""Discarding what waits for a handler: `callbacks handlers purge`. It is counted as dropped, so the audit balances.

Works through the queue some jobs at a time, each of them in one step with its counters: broken off anywhere it has
dropped a part, and run again it goes on with the rest. What a dead worker's handler had finished is counted as
delivered. Jobs that run are nobody's to discard.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from shared import keys, progress, queues
from shared.errors import CallbacksError
from workers.expand import subscriptions
from workers.runtime import completion_journal, pause, scripts
from workers.runtime.job_transitions import JobTransitions
from workers.runtime.journal_folder import JournalFolder

_JOBS_PER_READ: Final = 200
# The data of one job, a hundred events, can be some MiB; as Python objects they take some 26 times as much.
_BYTES_PER_READ: Final = 2 << 20


class StillRunning(CallbacksError):
    """Some of its jobs are running, or it is neither off nor removed, so that they may at any moment."""


class Purged(Struct, frozen=True):
    """A part of what was discarded: events, and jobs that were left because this release cannot read them."""

    events: int
    unreadable: int = 0


class _WaitingJob(Struct, frozen=True):
    """A job that waits, as it was read: its parts are itself and what it took along, with their progress."""

    job_id: str
    parts: tuple[tuple[str, str], ...]
    changes: Mapping[str, int]
    events: int


class Purger:
    """Discards what waits for one handler. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis, handler: str, *, journals: JournalFolder | None = None) -> None:
        # Any, as redis-py's types of answers say bytes or str, and here they are always bytes.
        self._connection: Any = connection
        self._handler = handler
        self._queue = queues.delivery_queue(handler)
        self._journals = journals or JournalFolder()
        self._script = connection.register_script(scripts.load("types", "arguments", "admin/purge"))
        self._remove_empty_queue = connection.register_script(scripts.load("admin/remove_empty_queue"))

    def prepare(self) -> None:
        """Put back what dead workers left running or popped. Raises StillRunning if a job runs then, or may.

        What their handler had finished is in their notebooks: whether or not all is discarded then, it comes to nobody.
        """
        self._require_idle()
        transitions = JobTransitions(self._queue, connection=self._connection)
        for member in self._connection.zrangebyscore(keys.rq_started(self._queue), "-inf", time.time()):
            execution = transitions.parse_execution(member, "")
            execution.worker_name = as_text(self._connection.hget(execution.key, "worker_name") or b"")
            finished = self._journals.read(execution.worker_name)
            transitions.requeue(execution, to="front", finished=finished, died=True)
        for job_id in self._connection.lrange(keys.rq_intermediate(self._queue), 0, -1):
            transitions.requeue_orphan(as_text(job_id))
        running = self._connection.zcard(keys.rq_started(self._queue))
        if running:
            raise StillRunning(
                f"{running:,} of the jobs of {self._handler!r} are running, or their worker died less than a minute "
                "ago: stop its workers, or wait, and try again"
            )

    def _require_idle(self) -> None:
        """See that nobody delivers to the handler. Asks the workers: our CALLBACKS_HANDLERS may not be theirs."""
        pause_state = pause.read_state(self._connection, self._handler)
        if pause_state is not None and pause_state.by == "operator":
            return
        subscription = subscriptions.find(self._connection, self._handler)
        workers = self._connection.smembers(WORKERS_BY_QUEUE_KEY % self._queue)
        if (subscription is not None and subscription.since_ms is not None) or (
            workers and self._connection.exists(*workers)
        ):
            raise StillRunning(
                f"{self._handler!r} has workers, or is offered events by expand workers, which name it in their "
                f"CALLBACKS_HANDLERS: first `callbacks handlers pause {self._handler}`, or restart them without it"
            )

    def run(self) -> Iterator[Purged]:
        """Discard what waits now. Works as it is iterated; gives a part at a time."""
        queue, scheduled = keys.rq_queue(self._queue), keys.rq_scheduled(self._queue)
        yield from self._purge_jobs_of(
            self._connection.llen(queue), lambda first, last: self._connection.lrange(queue, first, last)
        )
        yield from self._purge_jobs_of(
            self._connection.zcard(scheduled), lambda first, last: self._connection.zrange(scheduled, first, last)
        )
        self._remove_empty_queue(keys=[keys.RQ_QUEUES, queue, scheduled])

    def _purge_jobs_of(self, number: int, ids_of: Any) -> Iterator[Purged]:
        """Discard the first `number` jobs of a place; `ids_of(first, last)` gives the ids that stand there now."""
        skipped = 0  # they stand in front of what is still to do
        while number > 0:
            ids = self._within_byte_limit(
                [as_text(job_id) for job_id in ids_of(skipped, skipped + min(number, _JOBS_PER_READ) - 1)]
            )
            if not ids:
                return
            number -= len(ids)
            jobs, unreadable = self._read_jobs(ids)
            purged = self._purge_jobs(jobs)
            done = sum(job.events for job, is_done in zip(jobs, purged, strict=True) if is_done)
            skipped += unreadable
            yield Purged(done, unreadable)

    def _within_byte_limit(self, ids: Sequence[str]) -> Sequence[str]:
        """Give as many of the first of these jobs as can be read together, one at the least."""
        with self._connection.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hstrlen(keys.job(job_id), "data")
            sizes = pipe.execute()
        total_bytes = 0
        for number, size in enumerate(sizes):
            total_bytes += size
            if number and total_bytes > _BYTES_PER_READ:
                return ids[:number]
        return ids

    def _read_jobs(self, ids: Sequence[str]) -> tuple[list[_WaitingJob], int]:
        jobs: list[_WaitingJob] = []
        unreadable = 0
        for job_id in ids:
            part_ids = [job_id, *map(as_text, self._connection.lrange(keys.coalesced(job_id), 0, -1))]
            counts: Counter[str] = Counter()
            try:
                parts = [(part, self._count_unsettled(part, counts)) for part in part_ids]
            except (msgspec.MsgspecError, ValueError):
                unreadable += 1
                continue
            jobs.append(_WaitingJob(job_id, tuple(parts), counts, counts.total()))
        return jobs, unreadable

    def _count_unsettled(self, job_id: str, counts: Counter[str]) -> str:
        """Count what one job still holds, and give its progress."""
        data, settled, finished = self._connection.hmget(keys.job(job_id), "data", "progress", "finished")
        text = as_text(settled or progress.NOTHING)
        if data is None:
            return text  # deleted by hand
        *_, events = queues.parse_arguments(data)
        done = progress.parse(text)
        finished_positions = completion_journal.parse_finished(as_text(finished or b""))
        for position, (kind, *_) in enumerate(events):
            if position not in done:
                outcome: keys.DeliveryOutcome = "delivered" if position in finished_positions else "dropped"
                counts[keys.handler_counter(self._handler, kind, outcome)] += 1
        return text

    def _purge_jobs(self, jobs: Sequence[_WaitingJob]) -> list[int]:
        arguments: list[str | int] = [keys.job(""), keys.COALESCED_PREFIX]
        for job in jobs:
            arguments += (job.job_id, len(job.parts), *(word for part in job.parts for word in part))
            arguments += (len(job.changes), *(word for change in job.changes.items() for word in change))
        key_names = [keys.rq_queue(self._queue), keys.rq_scheduled(self._queue), keys.COUNTS]
        purged: list[int] = self._script(keys=key_names, args=arguments) if jobs else []
        return purged
