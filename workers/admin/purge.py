"""Discarding what waits for a handler: `callbacks handlers drop`. It is counted as dropped, so the audit balances.

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

_JOBS_A_READ: Final = 200
# The data of one job, a hundred events, can be some MiB; as Python objects they take some 26 times as much.
_BYTES_A_READ: Final = 2 << 20


class StillRunning(CallbacksError):
    """Some of its jobs are running, or it is neither off nor removed, so that they may at any moment."""


class Discarded(Struct, frozen=True):
    """A part of what was discarded: events, and jobs that were left because this release cannot read them."""

    events: int
    unreadable: int = 0


class _Job(Struct, frozen=True):
    """A job that waits, as it was read: its parts are itself and what it took along, with their progress."""

    job_id: str
    parts: tuple[tuple[str, str], ...]
    changes: Mapping[str, int]
    events: int


class Discarding:
    """Discards what waits for one handler. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis, handler: str, *, journals: JournalFolder | None = None) -> None:
        # Any, as redis-py's types of answers say bytes or str, and here they are always bytes.
        self._connection: Any = connection
        self._handler = handler
        self._queue = queues.delivery_queue(handler)
        self._journals = journals or JournalFolder()
        self._script = connection.register_script(scripts.load("types", "arguments", "admin/purge"))
        self._forget = connection.register_script(scripts.load("admin/purge_taken"))

    def prepare(self) -> None:
        """Put back what dead workers left running or popped. Raises StillRunning if a job runs then, or may.

        What their handler had finished is in their notebooks: whether or not all is discarded then, it comes to nobody.
        """
        self._require_rest()
        places = JobTransitions(self._queue, connection=self._connection)
        for member in self._connection.zrangebyscore(keys.rq_started(self._queue), "-inf", time.time()):
            execution = places.parse_execution(member, "")
            execution.worker_name = as_text(self._connection.hget(execution.key, "worker_name") or b"")
            finished = self._journals.read(execution.worker_name)
            places.requeue(execution, to="front", finished=finished, died=True)
        for job_id in self._connection.lrange(keys.rq_intermediate(self._queue), 0, -1):
            places.requeue_orphan(as_text(job_id))
        running = self._connection.zcard(keys.rq_started(self._queue))
        if running:
            raise StillRunning(
                f"{running:,} of the jobs of {self._handler!r} are running, or their worker died less than a minute "
                "ago: stop its workers, or wait, and try again"
            )

    def _require_rest(self) -> None:
        """See that nobody delivers to the handler. Asks the workers: our CALLBACKS_HANDLERS may not be theirs."""
        pausing = pause.read_state(self._connection, self._handler)
        if pausing is not None and pausing.by == "operator":
            return
        offered = subscriptions.find(self._connection, self._handler)
        workers = self._connection.smembers(WORKERS_BY_QUEUE_KEY % self._queue)
        if (offered is not None and offered.since_ms is not None) or (workers and self._connection.exists(*workers)):
            raise StillRunning(
                f"{self._handler!r} has workers, or is offered events by expand workers, which name it in their "
                f"CALLBACKS_HANDLERS: first `callbacks handlers off {self._handler}`, or restart them without it"
            )

    def run(self) -> Iterator[Discarded]:
        """Discard what waits now. Works as it is iterated; gives a part at a time."""
        queue, scheduled = keys.rq_queue(self._queue), keys.rq_scheduled(self._queue)
        yield from self._through(
            self._connection.llen(queue), lambda first, last: self._connection.lrange(queue, first, last)
        )
        yield from self._through(
            self._connection.zcard(scheduled), lambda first, last: self._connection.zrange(scheduled, first, last)
        )
        self._forget(keys=[keys.RQ_QUEUES, queue, scheduled])

    def _through(self, number: int, ids_of: Any) -> Iterator[Discarded]:
        """Discard the first `number` jobs of a place; `ids_of(first, last)` gives the ids that stand there now."""
        left = 0  # they stand in front of what is still to do
        while number > 0:
            ids = self._at_once([as_text(job_id) for job_id in ids_of(left, left + min(number, _JOBS_A_READ) - 1)])
            if not ids:
                return
            number -= len(ids)
            jobs, unreadable = self._read(ids)
            told = self._discard(jobs)
            done = sum(job.events for job, is_done in zip(jobs, told, strict=True) if is_done)
            left += unreadable
            yield Discarded(done, unreadable)

    def _at_once(self, ids: Sequence[str]) -> Sequence[str]:
        """Give as many of the first of these jobs as can be read together, one at the least."""
        with self._connection.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hstrlen(keys.job(job_id), "data")
            sizes = pipe.execute()
        held = 0
        for number, size in enumerate(sizes):
            held += size
            if number and held > _BYTES_A_READ:
                return ids[:number]
        return ids

    def _read(self, ids: Sequence[str]) -> tuple[list[_Job], int]:
        jobs: list[_Job] = []
        unreadable = 0
        for job_id in ids:
            part_ids = [job_id, *map(as_text, self._connection.lrange(keys.coalesced(job_id), 0, -1))]
            counts: Counter[str] = Counter()
            try:
                parts = [(part, self._count(part, counts)) for part in part_ids]
            except (msgspec.MsgspecError, ValueError):
                unreadable += 1
                continue
            jobs.append(_Job(job_id, tuple(parts), counts, counts.total()))
        return jobs, unreadable

    def _count(self, job_id: str, counts: Counter[str]) -> str:
        """Count what one job still holds, and give its progress."""
        data, settled, finished = self._connection.hmget(keys.job(job_id), "data", "progress", "finished")
        text = as_text(settled or progress.NOTHING)
        if data is None:
            return text  # deleted by hand
        *_, events = queues.parse_arguments(data)
        done = progress.parse(text)
        finished_places = completion_journal.parse_finished(as_text(finished or b""))
        for place, (kind, *_) in enumerate(events):
            if place not in done:
                outcome: keys.DeliveryOutcome = "delivered" if place in finished_places else "dropped"
                counts[keys.handler_counter(self._handler, kind, outcome)] += 1
        return text

    def _discard(self, jobs: Sequence[_Job]) -> list[int]:
        arguments: list[str | int] = [keys.job(""), keys.COALESCED_PREFIX]
        for job in jobs:
            arguments += (job.job_id, len(job.parts), *(word for part in job.parts for word in part))
            arguments += (len(job.changes), *(word for change in job.changes.items() for word in change))
        places = [keys.rq_queue(self._queue), keys.rq_scheduled(self._queue), keys.COUNTS]
        told: list[int] = self._script(keys=places, args=arguments) if jobs else []
        return told
