"""RQ's SimpleWorker, with the few changes without which a stop, or Redis away, would lose or double work.

It works in its own process (warm connections, no fork), listens to exactly one queue (only then RQ pops crash-safely,
with BLMOVE), and ends where RQ would end it: whoever started it starts it again. See `supervisor`.
"""

import logging
import time
from types import FrameType, TracebackType
from typing import Any, Final, TypeAlias

import redis
from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout, StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.timeouts import BaseDeathPenalty

from shared import queues
from workers.settling import StaleRun

log = logging.getLogger("callbacks.worker")

# A job whose worker and supervisor are both gone is given to another one after this. The supervisor renews it.
LEASE_SECONDS: Final = 60
# How long an idle worker waits in one BLMOVE, so how long it may take to notice that it is to stop.
WAIT_SECONDS: Final = 1
_PAUSE_SECONDS: Final = 1.0

ExceptionInfo: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class Unfinished(Exception):
    """The worker is to stop: what is left of the job goes back to the front of its queue."""


class _NoAlarm(BaseDeathPenalty):
    """No time limit for a job: handlers have limits of their own, and an alarm could strike in mid-settlement."""

    def setup_death_penalty(self) -> None:
        """Set no alarm."""

    def cancel_death_penalty(self) -> None:
        """Leave alone whatever alarm a handler's limit has set."""


class QueueWorker(SimpleWorker):
    """A worker for one queue, named so that its supervisor finds its running job."""

    death_penalty_class = _NoAlarm

    def __init__(self, queue: str, *, name: str, connection: redis.Redis) -> None:
        super().__init__(
            [Queue(queue, connection=connection, serializer=queues.JsonSerializer)],
            name=name,
            connection=connection,
            serializer=queues.JsonSerializer,
            worker_ttl=LEASE_SECONDS,
            maintenance_interval=LEASE_SECONDS,
        )
        self._stopping = False
        self._committed_job_id: str | None = None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop; a job with much left to do ends early by raising Unfinished."""
        return self._stopping

    @property
    def dequeue_timeout(self) -> int:
        """How long one wait for a job lasts, in seconds."""
        return WAIT_SECONDS

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002 # RQ's signature
        """How long the job's lease lasts, in seconds, until somebody renews it."""
        return LEASE_SECONDS

    def request_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 # RQ's signature
        """Note that it is to stop. RQ would raise out of the wait for a job, and so lose sight of one just popped."""
        self._stopping = self._stop_requested = True

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job until one comes, however long Redis is away, or until it is to stop."""
        while not self._stopping:
            try:
                self.heartbeat()
                if self.should_run_maintenance_tasks:
                    self.run_maintenance_tasks()
                found = self.queue_class.dequeue_any(
                    self.queues,
                    timeout,
                    connection=self.connection,
                    job_class=self.job_class,
                    serializer=self.serializer,
                    death_penalty_class=self.death_penalty_class,
                )
            except DequeueTimeout:
                if max_idle_time is not None:
                    return None
                continue
            except (redis.ConnectionError, redis.TimeoutError) as exc:
                log.warning("action=redis_away queue=%s error=%s", self.queues[0].name, exc)
                time.sleep(_PAUSE_SECONDS)
                continue
            if found is not None:
                found[0].redis_server_version = self.get_redis_server_version()
            return found
        raise StopRequested

    def _finalize_success(self, job: Job, queue: Queue, execution: Execution, return_value: Any) -> None:
        self._committed_job_id = job.id
        super()._finalize_success(job, queue, execution, return_value)

    def _finalize_failure(self, job: Job, queue: Queue, execution: Execution, exc_info: ExceptionInfo) -> None:
        if job.id == self._committed_job_id:
            # The work is done and committed, and only RQ's own last transaction has no answer. RQ would take the job
            # for failed and write it anew, without the progress that tells what is settled: then everything in it
            # would be done twice. Left alone it is either gone, or still has its progress; then its lease ends,
            # and its next run finds nothing left to do.
            log.warning("action=job_end_unknown queue=%s job=%s error=%s", queue.name, job.id, exc_info[1])
            return
        if isinstance(exc_info[1], StaleRun):
            # The job is another worker's: only this run of it ends.
            log.warning("action=job_run_twice queue=%s job=%s", queue.name, job.id)
            with self.connection.pipeline() as pipe:
                self.cleanup_execution(job, pipe, execution)
                pipe.execute()
            return
        if isinstance(exc_info[1], Unfinished):
            job.enqueue_at_front_on_retry = True
        else:
            log.error("action=job_failed queue=%s job=%s", queue.name, job.id, exc_info=exc_info[1])
            time.sleep(_PAUSE_SECONDS)  # RQ puts it back at once, and what made it fail is mostly Redis
        self.handle_execution_ended(job, queue, LEASE_SECONDS)
        self.handle_job_failure(job=job, queue=queue, exc_string="", execution=execution)
