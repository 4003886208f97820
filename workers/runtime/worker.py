"""RQ's SimpleWorker, with the few changes without which a stop, or an unavailable Redis, would lose or repeat work.

It runs jobs in its own process (warm connections, no fork), listens to exactly one queue (only then RQ pops
crash-safely, with BLMOVE), and starts and requeues jobs by `job_transitions` alone. While Redis is unavailable it
waits. Any other error ends it where RQ would: its supervisor restarts it and requeues its job. See `supervisor`,
`maintenance`.
"""

import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Literal, TypeAlias

import redis
from redis.client import Pipeline
from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout, StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.timeouts import BaseDeathPenalty
from rq.utils import now
from rq.worker import WorkerStatus

from shared import queues, sealed_data
from shared.structured_log import get_logger
from workers.runtime.completion_journal import CompletionJournal
from workers.runtime.job_transitions import JobTransitions
from workers.runtime.oom_fallback import OomFallbackRedis
from workers.runtime.redis_availability import redis_availability
from workers.runtime.redis_retry import is_unavailable, retry_while_unavailable
from workers.runtime.replaceable_job import ReadFailedJob
from workers.runtime.run_errors import RunPaused, SettlementFailed, StaleRun, Unfinished

log = get_logger("callbacks.worker")

# A job whose worker and supervisor are both gone is requeued after this. The supervisor renews it.
LEASE_SECONDS: Final = 45
# How long Redis keeps what a worker runs, unless the end of the run deletes it before.
RUNS_SECONDS: Final = 86_400
# How long an idle worker waits in one BLMOVE, so how long it may take to notice a stop.
WAIT_SECONDS: Final = 1
_RETRY_SECONDS: Final = 1.0
_CHECK_SECONDS: Final = 5.0
_HEARTBEAT_SECONDS: Final = 1.0

ExceptionInfo: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class _NoAlarm(BaseDeathPenalty):
    """No time limit for a job: handlers have limits of their own, and an alarm could go off during a settlement."""

    def setup_death_penalty(self) -> None:
        """Set no alarm."""

    def cancel_death_penalty(self) -> None:
        """Do nothing, so the alarm of a handler's limit stays."""


class QueueWorker(SimpleWorker):
    """A worker for one queue, named so that its supervisor finds its running job.

    `read_failed_job` says what becomes of a job whose run failed by an error of this service.
    """

    death_penalty_class = _NoAlarm

    def __init__(
        self,
        queue: str,
        *,
        name: str,
        connection: redis.Redis,
        journal: CompletionJournal,
        read_failed_job: ReadFailedJob,
    ) -> None:
        # RQ's own commands must work while Redis is full: a worker starts, pops, and ends jobs by them.
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
        self._read_failed_job = read_failed_job
        self._stopping = False
        self._finished_execution: Execution | None = None
        self._check_at = self._heartbeat_at = 0.0
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
        """Record that it has to stop. RQ would raise out of the wait for a job, and so lose one just popped."""
        self._stopping = self._stop_requested = True

    def subscribe(self) -> None:
        """Do nothing: RQ's commands would need a thread and a connection, and the supervisor stops workers."""

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """False: RQ's maintenance requeues dead workers' jobs even if a supervisor just did."""
        return False

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job, however long Redis is unavailable, until one comes or the worker has to stop."""
        while not self._stopping:
            try:
                # While a handler is paused nothing is popped, so fewer heartbeats are enough.
                if self._seconds_paused is None or time.monotonic() >= self._check_at:
                    self._send_heartbeat()
                self._requeue_stale_executions()
                if self._seconds_paused is not None and (seconds := self._seconds_paused()) > 0:
                    if timeout is None:
                        return None  # a burst worker is done: nothing can be claimed
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
                if found is not None:
                    found[0].redis_server_version = self.get_redis_server_version()
            except DequeueTimeout:
                if max_idle_time is not None:
                    return None
                redis_availability.succeeded()
                continue
            except redis.RedisError as exc:
                # If the lost answer held a popped job, the supervisor requeues it.
                self._wait_for_redis(exc)
                continue
            redis_availability.succeeded()
            return found
        raise StopRequested

    def check_for_suspension(self, burst: bool) -> None:
        """Wait while `rq suspend` holds, however long Redis is unavailable. RQ would end the worker then."""
        state = self._state
        while not self._stopping:
            try:
                super().check_for_suspension(burst)
            except redis.RedisError as exc:
                self._wait_for_redis(exc)
                self._state = state  # RQ returns to the one that it finds
                continue
            return

    def _wait_for_redis(self, exc: redis.RedisError) -> None:
        """Wait a moment. Raise the error if it says that waiting does not help."""
        if not is_unavailable(exc):
            raise exc
        redis_availability.failed(exc, queue=self.queues[0].name)
        time.sleep(_RETRY_SECONDS)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Say in a pipeline that this worker lives. RQ does so after each job too, as the next wait does anyway."""
        if pipeline is not None:
            super().heartbeat(timeout, pipeline=pipeline)

    def _send_heartbeat(self) -> None:
        """Say that this worker lives, at most once a second."""
        if time.monotonic() >= self._heartbeat_at:
            with self.connection.pipeline() as pipe:
                self.heartbeat(pipeline=pipe)
                pipe.execute()
            self._heartbeat_at = time.monotonic() + _HEARTBEAT_SECONDS

    def _requeue_stale_executions(self) -> None:
        """Requeue what Redis says this worker runs, while it runs nothing.

        If Redis falls back to an earlier state, as by a failover to a replica that was behind, a finished job is
        running again, and its supervisor would renew the lease forever.
        """
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + _CHECK_SECONDS
        for execution in self._transitions.list_executions(self.name):
            if self._transitions.requeue(execution, to="front", finished={}):
                log.warning("job_requeued", queue=self.queues[0].name, job=execution.job_id)
        self.executions.clear()

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run the job that was popped, unless it was given to another worker meanwhile."""
        with self.connection.pipeline() as pipe:  # only collects RQ's commands, and sends nothing
            execution = Execution.create(job, LEASE_SECONDS, pipeline=pipe, worker_name=self.name)
            self.set_state(WorkerStatus.BUSY, pipeline=pipe)
            self.heartbeat(pipeline=pipe)
            job.prepare_for_execution(self.name, pipeline=pipe)
            pipe.persist(job.key)
            pipe.expire(self.executions_key, RUNS_SECONDS)
            pipe.expire(execution.key, RUNS_SECONDS)
            commands = [words for words, _ in pipe.command_stack]
        self.executions[execution.id] = execution
        try:
            started = self._transitions.start(execution, commands, lease_seconds=LEASE_SECONDS)
        except redis.RedisError as exc:
            # The job is popped, and the supervisor requeues it; or only the answer was lost, and the next check or, if
            # this worker has to stop before, its teardown does.
            self._check_at = 0.0
            self._wait_for_redis(exc)
            return
        if started:
            if self.perform_job(job, queue, execution):
                return  # the step that ended the run has said that this worker is idle
        else:
            log.warning("job_claimed_elsewhere", queue=queue.name, job=job.id)
            del self.executions[execution.id]
        try:
            self.set_state(WorkerStatus.IDLE)
        except redis.RedisError as exc:  # it is only shown, and the next job says more
            if not is_unavailable(exc):
                raise

    def prepare_job_execution(self, *_: Any, **__: Any) -> None:
        """Do nothing: `execute_job` has already entered the job as running, in the step that started it."""

    def teardown(self) -> None:
        """Requeue what a run has left, and sign off; if Redis is unavailable, the supervisor does both."""
        try:
            for execution in list(self.executions.values()):
                self._transitions.requeue(execution, to="front", finished=self._journal.read())
            super().teardown()
        except redis.RedisError as exc:
            redis_availability.failed(exc, queue=self.queues[0].name)

    def _finalize_success(self, job: Job, queue: Queue, execution: Execution, return_value: Any) -> None:  # noqa: ARG002 # RQ's signature
        # RQ would take some 18 round trips to Redis, and delete a job that another worker owns.
        with self.connection.pipeline() as pipe:  # only collects RQ's commands, and sends nothing
            self.increment_successful_job_count(pipeline=pipe)
            self.increment_total_working_time(now() - (job.started_at or now()), pipe)
            self.set_state(WorkerStatus.IDLE, pipeline=pipe)
            self.heartbeat(pipeline=pipe)
            commands = [words for words, _ in pipe.command_stack]
        self._finished_execution = execution
        try:
            # If Redis fell back during the run, jobs that were settled are in the list of coalesced jobs again.
            if not self._transitions.end(execution, commands):
                raise Unfinished
        except (SettlementFailed, Unfinished):
            self._finished_execution = None
            raise
        del self.executions[execution.id]

    def _finalize_failure(self, job: Job, queue: Queue, execution: Execution, exc_info: ExceptionInfo) -> None:
        # RQ would rewrite the whole job, even one that is gone. Here the job goes back to its queue with its progress,
        # if this run still holds it, so what is settled stays settled.
        error, to_front = exc_info[1], True
        if isinstance(error, RunPaused):
            self._seconds_paused = error.seconds_left
        if execution is self._finished_execution:
            # All is done, and only the answer to RQ's last transaction is missing. If it was carried out, there is
            # nothing to requeue; if not, the job's next run has nothing to do.
            log.warning("job_end_unconfirmed", queue=queue.name, job=job.id, error=error)
        elif isinstance(error, StaleRun):
            log.warning("job_run_stale", queue=queue.name, job=job.id)
        elif error is not None and is_unavailable(error):
            redis_availability.failed(error, queue=queue.name)
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
                # A pause may last for hours: they wait in the queue, where RQ shows them and any run finds them.
                with_coalesced=isinstance(error, RunPaused),
            ),
            execution,
        )

    def _end_failed(self, job: Job, queue: Queue, execution: Execution, error: BaseException) -> None:
        """End a run that failed by an error of this service: retry its job later, or replace it."""
        completions = self._journal.read()

        def end() -> bool:
            failed = self._read_failed_job(self.connection, queue.name, job.id)
            replacement = failed.replacement(error, completions)
            name, job_id = queue.name, job.id
            key = sealed_data.find_missing_key(error)
            if key is None:
                log.error("job_failed", queue=name, job=job_id, failures=failed.failures, exc_info=error)
            else:
                log.error("job_sealed", queue=name, key=key)
            if replacement is None:
                to: Literal["waiting", "later"] = "waiting" if failed.is_waiting(error) else "later"
                return self._transitions.requeue(execution, to=to, finished=completions)
            if replacement.jobs:
                log.warning("job_split", queue=name, job=job_id, items=len(replacement.jobs))
            else:
                number = len(replacement.failures)
                log.error("job_moved_to_failures", queue=name, job=job_id, failures=number)
            try:
                return self._transitions.replace(execution, replacement)
            except Exception as exc:
                if is_unavailable(exc):
                    raise
                log.error("job_replace_failed", queue=name, job=job_id, exc_info=exc)
                return self._transitions.requeue(execution, to="later", finished=completions)

        self._end_run(end, execution)

    def _end_run(self, end: Callable[[], bool], execution: Execution) -> None:
        retry_while_unavailable(end, is_stopping=lambda: self._stopping)
        self._journal.clear()
        self.executions.pop(execution.id, None)
