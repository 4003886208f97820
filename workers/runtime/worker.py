"""RQ's SimpleWorker, with the few changes without which a stop, or Redis away, would lose or double work.

It works in its own process (warm connections, no fork), listens to exactly one queue (only then RQ pops crash-safely,
with BLMOVE), and starts and puts back jobs by `places` alone. It ends where RQ would end it: whoever started it starts
it again, and looks after the jobs of those that died. See `supervisor`, `maintenance`.
"""

import logging
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, TypeAlias

import redis
from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout, StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.timeouts import BaseDeathPenalty
from rq.worker import WorkerStatus

from shared import queues
from workers.failures.failed_jobs import FailedJob
from workers.runtime.completion_journal import CompletionJournal
from workers.runtime.job_transitions import JobTransitions
from workers.runtime.oom_fallback import OomFallbackRedis
from workers.runtime.redis_retry import is_unavailable, retry_while_unavailable
from workers.runtime.steps import StaleRun

log = logging.getLogger("callbacks.worker")

# A job whose worker and supervisor are both gone is given to another one after this. The supervisor renews it.
LEASE_SECONDS: Final = 45
# How long Redis remembers what a worker runs; whoever finds it dead, or ends the run, deletes it.
RUNS_SECONDS: Final = 86_400
# How long an idle worker waits in one BLMOVE, so how long it may take to notice that it is to stop.
WAIT_SECONDS: Final = 1
_RETRY_SECONDS: Final = 1.0
_CHECK_SECONDS: Final = 5.0

ExceptionInfo: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class Unfinished(Exception):
    """The worker is to stop: what is left of the job goes back to the front of its queue."""


class RunPaused(Unfinished):
    """The queue's handler is paused: likewise, with all that the run took along, and then the worker waits.

    `seconds_left` tells for how long, at least, whenever it is asked; at 0 the worker takes a job again.
    """

    def __init__(self, seconds_left: Callable[[], float]) -> None:
        self.seconds_left = seconds_left
        super().__init__("the handler is paused")


class _NoAlarm(BaseDeathPenalty):
    """No time limit for a job: handlers have limits of their own, and an alarm could strike in mid-settlement."""

    def setup_death_penalty(self) -> None:
        """Set no alarm."""

    def cancel_death_penalty(self) -> None:
        """Leave alone whatever alarm a handler's limit has set."""


class QueueWorker(SimpleWorker):
    """A worker for one queue, named so that its supervisor finds its running job."""

    death_penalty_class = _NoAlarm

    def __init__(self, queue: str, *, name: str, connection: redis.Redis, journal: CompletionJournal) -> None:
        # RQ's own commands are those that a worker cannot do without: it starts, pops, and ends jobs by them.
        unrefused = OomFallbackRedis(connection)
        super().__init__(
            [Queue(queue, connection=unrefused, serializer=queues.JsonSerializer)],
            name=name,
            connection=unrefused,
            serializer=queues.JsonSerializer,
            worker_ttl=LEASE_SECONDS,
        )
        self._transitions = JobTransitions(queue, connection=connection)
        self._journal = journal
        self._stopping = False
        self._finished_execution: Execution | None = None
        self._check_at = 0.0
        self._seconds_paused: Callable[[], float] | None = None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop; a job with much left to do ends early by raising Unfinished."""
        return self._stopping

    @property
    def dequeue_timeout(self) -> int:
        """How long one wait for a job lasts, in seconds."""
        return WAIT_SECONDS

    def request_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 # RQ's signature
        """Note that it is to stop. RQ would raise out of the wait for a job, and so lose sight of one just popped."""
        self._stopping = self._stop_requested = True

    def subscribe(self) -> None:
        """Do nothing: RQ's commands would need a thread and a connection, and the supervisor starts and stops us."""

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Never: RQ's maintenance puts dead workers' jobs back, whether somebody else just did or not."""
        return False

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job until one comes, however long Redis is away, or until it is to stop."""
        is_unavailable_now = False
        while not self._stopping:
            try:
                # While a handler is paused nothing is popped, so RQ has to hear of the worker less often.
                if self._seconds_paused is None or time.monotonic() >= self._check_at:
                    self.heartbeat()
                self._requeue_stale_executions()
                if self._seconds_paused is not None and (seconds := self._seconds_paused()) > 0:
                    if timeout is None:
                        return None  # who works in a burst is done: nothing can be taken
                    time.sleep(min(seconds, WAIT_SECONDS))
                    continue
                self._seconds_paused = None
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
                is_unavailable_now = False
                continue
            except (redis.ConnectionError, redis.TimeoutError) as exc:
                # A job that was popped into the lost answer is given back by the supervisor.
                if not is_unavailable_now:
                    log.warning("action=redis_unavailable queue=%s error=%s", self.queues[0].name, exc)
                is_unavailable_now = True
                time.sleep(_RETRY_SECONDS)
                continue
            if found is not None:
                found[0].redis_server_version = self.get_redis_server_version()
            return found
        raise StopRequested

    def _requeue_stale_executions(self) -> None:
        """Put back what Redis says this worker runs, while it runs nothing.

        Where Redis falls back to an earlier state, a failover to a replica that was behind for one, a job that was
        done is running once more: for ever, as long as its supervisor renews the lease.
        """
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + _CHECK_SECONDS
        for execution in self._transitions.list_executions(self.name):
            if self._transitions.requeue(execution, to="front", finished={}):
                log.warning("action=job_requeued queue=%s job=%s", self.queues[0].name, execution.job_id)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run the job that was popped, unless it was given to somebody else meanwhile."""
        with self.connection.pipeline() as pipe:  # collects RQ's commands: nothing is sent through it
            execution = Execution.create(job, LEASE_SECONDS, pipeline=pipe, worker_name=self.name)
            self.set_state(WorkerStatus.BUSY, pipeline=pipe)
            self.heartbeat(pipeline=pipe)
            job.prepare_for_execution(self.name, pipeline=pipe)
            pipe.persist(job.key)
            pipe.expire(self.executions_key, RUNS_SECONDS)
            pipe.expire(execution.key, RUNS_SECONDS)
            commands = [words for words, _ in pipe.command_stack]
        self.executions[execution.id] = execution
        if self._transitions.start(job.id, commands):
            self.perform_job(job, queue, execution)
        else:
            log.warning("action=job_claimed_elsewhere queue=%s job=%s", queue.name, job.id)
            del self.executions[execution.id]
        self.set_state(WorkerStatus.IDLE)

    def prepare_job_execution(self, *_: Any, **__: Any) -> None:
        """Do nothing: `execute_job` has entered the job as running already, in the step that started it."""

    def teardown(self) -> None:
        """Put back what a broken run left behind, and sign off; without Redis, the supervisor does both."""
        try:
            for execution in list(self.executions.values()):
                self._transitions.requeue(execution, to="front", finished=self._journal.read())
            super().teardown()
        except redis.RedisError as exc:
            log.warning("action=redis_unavailable queue=%s error=%s", self.queues[0].name, exc)

    def _finalize_success(self, job: Job, queue: Queue, execution: Execution, return_value: Any) -> None:
        # Where Redis fell back in mid-run, jobs that were settled stand in the list once more. Nobody would find them
        # there when this job is gone; its next run does.
        if self._transitions.has_coalesced(job.id):
            raise Unfinished
        self._finished_execution = execution
        super()._finalize_success(job, queue, execution, return_value)

    def _finalize_failure(self, job: Job, queue: Queue, execution: Execution, exc_info: ExceptionInfo) -> None:
        # RQ would write the whole job anew, whether it is still there or not. Here the job goes back to its queue
        # with the progress that it has made, if this run still holds it; so whatever is settled stays settled.
        error, to_front = exc_info[1], True
        if isinstance(error, RunPaused):
            self._seconds_paused = error.seconds_left
        if execution is self._finished_execution:
            # All is done, and only RQ's own last transaction has no answer. If that was carried out, there is nothing
            # to put back; if not, the job's next run finds nothing left to do.
            log.warning("action=job_end_unconfirmed queue=%s job=%s error=%s", queue.name, job.id, error)
        elif isinstance(error, StaleRun):
            log.warning("action=job_run_stale queue=%s job=%s", queue.name, job.id)
        elif error is not None and is_unavailable(error):
            log.warning("action=redis_unavailable queue=%s error=%s", queue.name, error)
            to_front = False
            time.sleep(_RETRY_SECONDS)
        elif error is not None and not isinstance(error, Unfinished):
            self._end_failed(job, queue, execution, error)
            return
        self._end_run(
            lambda: self._transitions.requeue(
                execution,
                to="front" if to_front else "back",
                finished=self._journal.read(),
                # A pause may last for hours. What waits, waits where RQ shows it and where all find it after that.
                with_coalesced=isinstance(error, RunPaused),
            ),
            execution,
        )

    def _end_failed(self, job: Job, queue: Queue, execution: Execution, error: BaseException) -> None:
        """End a run that failed by an error of this service: the ladder of `failed_jobs` says what comes of its job."""
        notes = self._journal.read()

        def end() -> bool:
            failed = FailedJob(self.connection, queue.name, job.id)
            substitute = failed.replacement(error, notes)
            name, job_id = queue.name, job.id
            log.error("action=job_failed queue=%s job=%s failures=%d", name, job_id, failed.failures, exc_info=error)
            if substitute is None:
                return self._transitions.requeue(execution, to="later", finished=notes)
            if substitute.jobs:
                log.warning("action=job_split queue=%s job=%s items=%d", name, job_id, len(substitute.jobs))
            else:
                log.error(
                    "action=job_moved_to_failures queue=%s job=%s entries=%d", name, job_id, len(substitute.entries)
                )
            try:
                return self._transitions.replace(execution, substitute)
            except Exception as exc:
                if is_unavailable(exc):
                    raise
                log.error("action=job_replace_failed queue=%s job=%s", name, job_id, exc_info=exc)
                return self._transitions.requeue(execution, to="later", finished=notes)

        self._end_run(end, execution)

    def _end_run(self, end: Callable[[], bool], execution: Execution) -> None:
        retry_while_unavailable(end, is_stopping=lambda: self._stopping)
        self._journal.clear()
        self.executions.pop(execution.id, None)
