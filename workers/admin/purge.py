"""Discard the events that wait for a handler (`callbacks handlers purge`). They count as dropped: the audit balances.

It works through the queue some jobs at a time, each in one step with its counters. After an interruption a part is
dropped, and the next run continues. What a dead worker's handler had finished counts as delivered. Jobs that are
running are never discarded.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import events, keys, progress, queue_jobs, queues
from shared.counted import counted
from shared.errors import CallbacksError
from workers.expand import subscriptions
from workers.runtime import completion_journal, pause, scripts
from workers.runtime.job_transitions import JobTransitions
from workers.runtime.journal_folder import JournalFolder

_JOBS_PER_READ: Final = 200
# The data of one job, a hundred events, can be several MiB; as Python objects they take about 26 times as much.
_BYTES_PER_READ: Final = 2 << 20
FRAGMENTS: Final = ("types", "arguments", "portions", "admin/purge")


class StillRunning(CallbacksError):
    """Some of its jobs are running, or may start at any moment: it is neither paused nor removed."""


class Purged(Struct, frozen=True):
    """One step: how many events were discarded, how many jobs were left that cannot be read, and why the first."""

    events: int
    unreadable: int = 0
    unreadable_why: str = ""


class _WaitingJob(Struct, frozen=True):
    """A waiting job as it was read. `parts`: itself and the jobs coalesced into it, each with its progress."""

    job_id: str
    parts: tuple[tuple[str, str], ...]
    changes: Mapping[str, int]
    events: int


class Purger:
    """Discards the events that wait for one handler. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis, handler: str, *, journals: JournalFolder | None = None) -> None:
        # Any, as redis-py types replies as bytes or str, and here they are always bytes.
        self._connection: Any = connection
        self._handler = handler
        self._queue = queues.delivery_queue(handler)
        self._journals = journals or JournalFolder()
        self._script = connection.register_script(scripts.load(*FRAGMENTS))
        self._remove_empty_queue = connection.register_script(scripts.load("admin/remove_empty_queue"))

    def prepare(self) -> None:
        """Requeue what dead workers left running or claimed. Raise StillRunning if a job still runs, or may start.

        What their handler had finished is in their completion journals, and is delivered to nobody again.
        """
        self._require_idle()
        transitions = JobTransitions(self._queue, connection=self._connection)
        seconds, _microseconds = self._connection.time()
        for member in queue_jobs.list_expired_executions(self._connection, self._queue, seconds=seconds):
            execution = transitions.parse_execution(member, "")
            execution.worker_name = as_text(self._connection.hget(execution.key, "worker_name") or b"")
            finished = self._journals.read(execution.worker_name)
            transitions.requeue(execution, to="front", finished=finished, died=True)
        for job_id in queue_jobs.list_claimed(self._connection, self._queue):
            transitions.requeue_orphan(job_id)
        running = queue_jobs.read_sizes(self._connection, self._queue).running
        if running:
            raise StillRunning(
                f"{self._handler!r} has {counted(running, 'running job')}, or a worker died less than a minute ago: "
                "stop its workers, or wait a minute, then try again"
            )

    def _require_idle(self) -> None:
        """Raise StillRunning if workers may deliver to it. Ask Redis: their CALLBACKS_HANDLERS may differ from ours."""
        pause_state = pause.read_state(self._connection, self._handler)
        if pause_state is not None and pause_state.by == "operator":
            return
        subscription = subscriptions.find(self._connection, self._handler)
        workers = self._connection.smembers(keys.rq_workers(self._queue))
        if (subscription is not None and subscription.since_ms is not None) or (
            workers and self._connection.exists(*workers)
        ):
            raise StillRunning(
                f"{self._handler!r} has workers, or expand workers name it in their CALLBACKS_HANDLERS: "
                f"first `callbacks handlers pause {self._handler}`, or restart them without it"
            )

    def run(self) -> Iterator[Purged]:
        """Discard what waits now. Works while it is iterated; yields one Purged per step."""
        sizes = queue_jobs.read_sizes(self._connection, self._queue)
        yield from self._purge_listed(sizes.waiting, queue_jobs.list_waiting)
        sizes = queue_jobs.read_sizes(self._connection, self._queue)
        yield from self._purge_listed(sizes.scheduled, queue_jobs.list_scheduled)
        key_names = [keys.RQ_QUEUES, keys.rq_queue(self._queue), keys.rq_scheduled(self._queue)]
        self._remove_empty_queue(keys=key_names)

    def _purge_listed(self, number: int, list_ids: Callable[[Any, str, int, int], list[str]]) -> Iterator[Purged]:
        """Discard the first `number` jobs that `list_ids` lists."""
        skipped = 0  # unreadable jobs; they stay in front of the rest
        while number > 0:
            ids = list_ids(self._connection, self._queue, skipped, skipped + min(number, _JOBS_PER_READ) - 1)
            if not ids:
                return
            # One job is read even if it alone is larger.
            ids = queue_jobs.limit_by_bytes(self._connection, ids, _BYTES_PER_READ) or ids[:1]
            number -= len(ids)
            jobs, errors = self._read_jobs(ids)
            purged = self._purge_jobs(jobs)
            done = sum(job.events for job, is_done in zip(jobs, purged, strict=True) if is_done)
            skipped += len(errors)
            yield Purged(done, len(errors), errors[0] if errors else "")

    def _read_jobs(self, ids: Sequence[str]) -> tuple[list[_WaitingJob], list[str]]:
        """Return the jobs that can be read, and for each other one the error."""
        jobs: list[_WaitingJob] = []
        errors: list[str] = []
        for job_id in ids:
            (coalesced,) = queue_jobs.read_coalesced(self._connection, [job_id])
            counts: Counter[str] = Counter()
            try:
                parts = [(part, self._count_unsettled(part, counts)) for part in (job_id, *coalesced)]
            except (msgspec.MsgspecError, ValueError) as exc:
                errors.append(str(exc))
                continue
            jobs.append(_WaitingJob(job_id, tuple(parts), counts, counts.total()))
        return jobs, errors

    def _count_unsettled(self, job_id: str, counts: Counter[str]) -> str:
        """Count what is left of one job, and return its progress."""
        try:
            job = queue_jobs.read_delivery_job(self._connection, job_id)
        except queues.EventsMissing:
            settled, missing = count_unread(self._connection, self._queue, job_id)
            counts += missing
            return settled
        finished = completion_journal.parse_finished(job.finished)
        for position, event in job.events:
            outcome: keys.DeliveryOutcome = "delivered" if position in finished else "dropped"
            counts[keys.handler_counter(self._handler, events.kind_of(event), outcome)] += 1
        return job.progress

    def _purge_jobs(self, jobs: Sequence[_WaitingJob]) -> list[int]:
        arguments: list[str | int] = [keys.job(""), keys.COALESCED_PREFIX]
        for job in jobs:
            arguments += (job.job_id, len(job.parts), *(word for part in job.parts for word in part))
            arguments += (len(job.changes), *(word for change in job.changes.items() for word in change))
        key_names = [keys.rq_queue(self._queue), keys.rq_scheduled(self._queue), keys.COUNTS]
        purged: list[int] = self._script(keys=key_names, args=arguments) if jobs else []
        return purged


def count_unread(connection: Any, queue: str, job_id: str) -> tuple[str, Counter[str]]:
    """Return the progress of a job whose content nobody can read, and the changes of counters if it is dropped.

    Each of its events, or of its callbacks' records, is of an unknown kind. Raise redis.RedisError.
    """
    names = ("items", "progress", "finished")
    items, settled, finished = connection.hmget(keys.job(job_id), names)
    progress_text = as_text(settled or progress.NOTHING)
    handler = queues.handler_of(queue)
    if handler is None:
        left = int(items or 0) - progress.count(progress_text)
        return progress_text, Counter({keys.counter("unknown", "dropped"): left})
    positions = frozenset(range(int(items or 0))) - progress.parse(progress_text)
    delivered = len(positions & completion_journal.parse_finished(as_text(finished or b"")))
    outcomes: tuple[tuple[keys.DeliveryOutcome, int], ...]
    outcomes = (("delivered", delivered), ("dropped", len(positions) - delivered))
    return progress_text, Counter({keys.handler_counter(handler, "unknown", one): n for one, n in outcomes if n})
