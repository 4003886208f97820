"""What a supervisor does for its queues while its workers work: leases, dead workers' jobs, orphans, due retries.

Retries wait in RQ's registry of scheduled jobs. RQ's scheduler would be one more process for every worker, and moves a
job a second time that another one has moved meanwhile; here any supervisor promotes them, in one step. A worker that is
busy in its handler cannot renew its own lease: its supervisor does, which sees that it is alive, or, if that has died,
another one on its machine. A job is requeued in four cases: the supervisor saw its worker die; both died and left the
worker's journal on this machine; its lease ended, because the machine is gone; it was popped and not started for a
second.

Each task is isolated, and so is each worker, job and list within it: if one fails, because something in Redis is not as
it should be, that is logged and delays none of the others. Only if Redis does not answer, all of them wait.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeVar

import redis
from rq import Queue
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution
from rq.utils import as_text
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY, clean_worker_registry

from shared import keys, queue_jobs, queues
from shared.background import Background
from shared.primary import check_role
from shared.structured_log import get_logger
from workers.runtime.isolation import run_for_each
from workers.runtime.job_transitions import JobTransitions
from workers.runtime.journal_folder import JournalFolder
from workers.runtime.lease_clock import LeaseClock, LeaseTime
from workers.runtime.oom_fallback import OomFallbackRedis
from workers.runtime.redis_retry import UNAVAILABLE, is_temporary
from workers.runtime.worker import LEASE_SECONDS, RUNS_SECONDS

log = get_logger("callbacks.supervisor")

T = TypeVar("T")

_CHECK_SECONDS: Final = 1.0
_RENEW_SECONDS: Final = 10.0
_EXPIRE_SECONDS: Final = 5.0
# When what could not be requeued is tried again.
_RETRY_SECONDS: Final = 5.0
_MAX_PROMOTED: Final = 1000
# While Redis was unavailable no lease could be renewed. All supervisors get this time for it before leases end again.
_GRACE_SECONDS: Final = 2 * _RENEW_SECONDS


class MaintenanceTask(Protocol):
    """A further task of maintenance, with a schedule of its own."""

    @property
    def is_due(self) -> bool:
        """Whether `tick` has something to do now."""

    def tick(self) -> None:
        """Do what is due, in less than a second. Raise redis.RedisError; other exceptions are logged."""


class Maintenance:
    """Maintains `queue_names` over a connection of its own, and runs further `tasks`, each by its name in the log.

    `background` counts the failures of each task. `beat` is called between tasks and between their items: while Redis
    is slow a tick can take minutes, and a supervisor that works is not one that hangs.
    """

    def __init__(
        self,
        queue_names: Iterable[str],
        *,
        connection: redis.Redis,
        journals: JournalFolder | None = None,
        tasks: Mapping[str, MaintenanceTask] | None = None,
        background: Background | None = None,
    ) -> None:
        self.background = background or Background()
        self._own_connection = connection
        self._connection: Any = OomFallbackRedis(connection)
        self._lease_clock = LeaseClock(self._connection)
        # The replication id of the server, once it is known.
        self._primary = ""
        self._tasks = dict(tasks or {})
        self._journals = journals or JournalFolder()
        self._queue_names = sorted(set(queue_names))
        self._transitions = {name: JobTransitions(name, connection=connection) for name in self._queue_names}
        self._popped: dict[str, set[bytes]] = {}
        # By name: whether its end counts as a death, because nothing had asked it to stop.
        self._dead: dict[str, bool] = {}
        self._stopping = False
        self.beat: Callable[[], object] = _no_beat
        self._workers: set[str] = set()
        self._reap_at = self._check_at = self._renew_at = self._renewed_at = 0.0
        self._expire_at = time.monotonic() + _GRACE_SECONDS

    def record_exit(self, worker: str) -> None:
        """Record that a worker's process has ended: its jobs are requeued at the next tick."""
        self._dead[worker] = not self._stopping
        self._workers.discard(worker)
        self._reap_at = 0.0

    def begin_stop(self) -> None:
        """Record that the workers were asked to stop: from now on their end does not count as a death.

        The next tick writes it to Redis, for other supervisors: this pool may be killed before it has stopped.
        """
        self._stopping, self._renew_at = True, 0.0

    def tick(self, workers: Iterable[str]) -> None:
        """Do what is due; `workers` are the names of the live ones.

        Raise redis.RedisError if Redis is unavailable; other errors are logged.
        """
        self._workers = set(workers)
        try:
            self._tick()
        except redis.RedisError:
            self._postpone_expiry()
            raise

    def close(self) -> None:
        """Requeue the jobs of dead workers that are left, and close the connection."""
        try:
            if self._dead:
                self.attempt("maintenance_dead_workers", self._reap_dead_workers)
        finally:
            self._own_connection.close()

    def attempt(self, task: str, step: Callable[[], object]) -> bool:
        """Do a task; return whether all of it succeeded. Raise redis.RedisError if Redis is unavailable."""
        succeeded = self.background.loop(task).attempt(step, reraise=UNAVAILABLE) == 0
        self.beat()
        return succeeded

    def _tick(self) -> None:
        now = time.monotonic()
        if self._dead and now >= self._reap_at:
            self.attempt("maintenance_dead_workers", self._reap_dead_workers)
        if not self._lease_clock.is_read:
            # Before the first grace, so that a step of Redis's clock in it is noticed too.
            self.attempt("maintenance_role", self._check_role)
            self.attempt("maintenance_expired_leases", self._read_lease_time)
        # Before anything expires: leases end by Redis's clock, which may have been set, and these workers are alive.
        if now >= min(self._renew_at, self._expire_at):
            self._renew_all()
        if now >= self._expire_at:
            self._expire_at = now + _EXPIRE_SECONDS
            self.attempt("maintenance_role", self._check_role)
            self.attempt("maintenance_expired_leases", self._expire_leases)
            self.attempt("maintenance_worker_registry", lambda: self._for_each(self._queue_names, self._clean_registry))
        if now >= self._check_at:
            self._check_at = now + _CHECK_SECONDS
            self.attempt("maintenance_abandoned_workers", self._check_abandoned_workers)
            self.attempt("maintenance_orphans", lambda: self._for_each(self._queue_names, self._requeue_orphans))
            self.attempt("maintenance_due_retries", lambda: self._for_each(self._queue_names, self._promote_due))
        for name, task in self._tasks.items():
            if task.is_due:
                self.attempt(name, task.tick)

    def _for_each(self, items: Iterable[T], do: Callable[[T], object]) -> None:
        run_for_each(items, do, after_each=self._stay_alive)

    def _stay_alive(self) -> None:
        """Show that this process works, and keep the leases of its workers, however long a tick takes."""
        self.beat()
        if time.monotonic() >= self._renewed_at + _RENEW_SECONDS:
            self._renew_all()

    def _is_ours(self, worker: str) -> bool:
        return _queue_of(worker) in self._transitions

    def _check_abandoned_workers(self) -> None:
        """Requeue the jobs of workers whose supervisors died with them."""
        dead = len(self._dead)
        try:
            self._for_each(self._journals.list_workers(), self._check_journal)
        finally:
            if len(self._dead) > dead:
                self.attempt("maintenance_dead_workers", self._reap_dead_workers)

    def _check_journal(self, present: tuple[str, bool]) -> None:
        worker, lives = present
        if lives or not self._is_ours(worker):
            return
        if self._connection.exists(WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker)):
            self._dead.setdefault(worker, True)
            self._reap_at = 0.0
        elif self._journals.is_expired(worker):  # otherwise it may belong to another Redis
            self._journals.remove(worker)

    def _renew_all(self) -> None:
        alive = set(self._workers)
        # A worker that had just popped a job when it was asked to stop may still start it.
        self._renew_at = time.monotonic() + (_CHECK_SECONDS if self._stopping else _RENEW_SECONDS)
        self.attempt("maintenance_leases", lambda: self._renew_leases(alive))
        # Counted from its end: if the renewals themselves take long, other tasks still have their turn.
        self._renewed_at = time.monotonic()

    def _renew_leases(self, ours: set[str]) -> None:
        others = {worker for worker, lives in self._journals.list_workers() if lives and self._is_ours(worker)}
        try:
            run_for_each(
                others | ours,
                lambda worker: self._renew_lease(worker, stopping=self._stopping and worker in ours),
                after_each=self.beat,
            )
        except ExceptionGroup as exc:
            if exc.subgroup(is_temporary) is not None:
                self._postpone_expiry()
            raise

    def _postpone_expiry(self) -> None:
        """End no lease until all supervisors, on other machines too, have had time to renew those of live workers."""
        self._renew_at, self._expire_at = 0.0, time.monotonic() + _GRACE_SECONDS

    def _renew_lease(self, worker: str, *, stopping: bool) -> None:
        transitions = self._transitions[_queue_of(worker)]
        run_for_each(
            transitions.list_executions(worker),
            lambda execution: transitions.renew(
                execution, lease_seconds=LEASE_SECONDS, runs_seconds=RUNS_SECONDS, stopping=stopping
            ),
            after_each=self.beat,
        )

    def _reap_dead_workers(self) -> None:
        # Together with those that failed before; none of them delays another.
        self._reap_at = time.monotonic() + _RETRY_SECONDS
        try:
            self._for_each(list(self._dead.items()), self._reap_worker)
        except UNAVAILABLE:
            self._reap_at = 0.0
            raise

    def _reap_worker(self, dead: tuple[str, bool]) -> None:
        worker, died = dead
        queue = _queue_of(worker)
        self._for_each(
            self._transitions[queue].list_executions(worker),
            lambda execution: self._requeue(queue, execution, died=died),
        )
        with self._connection.pipeline() as pipe:
            pipe.srem(REDIS_WORKER_KEYS, keys.rq_worker(worker))
            pipe.srem(WORKERS_BY_QUEUE_KEY % queue, keys.rq_worker(worker))
            pipe.delete(keys.rq_worker(worker), WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker))
            pipe.execute()
        self._journals.remove(worker)
        self._dead.pop(worker, None)

    def _check_role(self) -> None:
        # Without a write a replica answers like a primary.
        self._primary = check_role(self._connection)

    def _read_lease_time(self) -> LeaseTime:
        return self._lease_clock.read(self._primary)

    def _expire_leases(self) -> None:
        now = self._read_lease_time()
        if now.has_stepped:
            # Leases of live workers may look ended.
            log.warning("redis_clock_stepped", postponed_seconds=_GRACE_SECONDS)
            self._postpone_expiry()
            return
        self._for_each(self._queue_names, lambda queue: self._requeue_expired(queue, now.seconds))

    def _requeue_expired(self, queue: str, seconds: int) -> None:
        def requeue(member: bytes) -> None:
            execution = self._transitions[queue].parse_execution(member, "")
            execution.worker_name = as_text(self._connection.hget(execution.key, "worker_name") or b"")
            self._requeue(queue, execution, died=True)

        self._for_each(queue_jobs.list_expired_executions(self._connection, queue, seconds=seconds), requeue)

    def _clean_registry(self, queue: str) -> None:
        clean_worker_registry(Queue(queue, connection=self._connection, serializer=queues.JsonSerializer))

    def _requeue_orphans(self, queue: str) -> None:
        def requeue(member: bytes) -> None:
            job_id = as_text(member)
            if self._transitions[queue].requeue_orphan(job_id):
                log.warning("job_requeued", queue=queue, job=job_id)

        before = self._popped.get(queue, set())
        popped = self._popped[queue] = set(self._connection.lrange(keys.rq_intermediate(queue), 0, -1))
        self._for_each(popped & before, requeue)

    def _promote_due(self, queue: str) -> None:
        self._transitions[queue].promote_due(limit=_MAX_PROMOTED)

    def _requeue(self, queue: str, execution: Execution, *, died: bool) -> None:
        finished = self._journals.read(execution.worker_name)
        if self._transitions[queue].requeue(execution, to="front", finished=finished, died=died):
            log.warning("job_requeued", queue=queue, job=execution.job_id)


def _no_beat() -> None:
    """Do nothing: this maintenance belongs to no supervisor."""


def _queue_of(worker: str) -> str:
    """Return the queue of a worker named by the supervisor: <queue>-<32 hexadecimal digits>."""
    return worker.rpartition("-")[0]
