"""What a supervisor does for its queues while its workers work: due retries, leases, and dead workers' jobs.

Retries wait in RQ's registry of scheduled jobs. RQ's scheduler would be one more process beside every worker, and moves
a job that another one has moved meanwhile a second time; here it is one step of any supervisor. A worker busy in its
handler cannot renew its own lease; its supervisor, who sees that it lives, does, or, if that one died, another on its
machine. Four ways lead back into the queue: the supervisor saw the worker die; both died, and left
the worker's notebook on this machine; the lease ran out, as the machine is gone; the job was popped, and for a second
nobody started it.

Each task is by itself, and so is each worker, job and shelf within it: one that fails, as there is something in Redis
that should not be, is logged and keeps none of the others waiting. Only where Redis does not answer all of them wait.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import redis
from rq import Queue
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution
from rq.utils import as_text
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY, clean_worker_registry

from shared import keys, queues
from shared.background import Background
from shared.primary import check_role
from workers.failures.retention import Trimming
from workers.runtime.isolated import UNAVAILABLE, each
from workers.runtime.job_transitions import Places
from workers.runtime.journal_folder import Notebooks
from workers.runtime.oom_fallback import OomFallbackRedis
from workers.runtime.redis_retry import may_pass
from workers.runtime.worker import LEASE_SECONDS, RUNS_SECONDS

log = logging.getLogger("callbacks.supervisor")

_LOOK_SECONDS: Final = 1.0
_RENEW_SECONDS: Final = 10.0
_EXPIRE_SECONDS: Final = 5.0
# What could not be given back is tried again after this.
_AGAIN_SECONDS: Final = 5.0
_DUE_A_STEP: Final = 1000
# While Redis was away no lease could be renewed. Whoever lives gets the time to do it before leases end again.
_MERCY_SECONDS: Final = 2 * _RENEW_SECONDS


class Housekeeping:
    """Keeps `queue_names` over a connection of its own; how its tasks go is told to `background`."""

    def __init__(
        self,
        queue_names: Iterable[str],
        *,
        connection: redis.Redis,
        notebooks: Notebooks | None = None,
        trimming: Trimming | None = None,
        background: Background | None = None,
    ) -> None:
        self.background = background or Background()
        self._opened = connection
        self._connection: Any = OomFallbackRedis(connection)
        self._trimming = trimming
        self._notebooks = notebooks or Notebooks()
        self._queue_names = sorted(set(queue_names))
        self._places = {name: Places(name, connection=connection) for name in self._queue_names}
        self._popped: dict[str, set[bytes]] = {}
        # By name: whether it died of what it worked on, for all we know.
        self._dead: dict[str, bool] = {}
        self._stopping = False
        self._dead_at = self._look_at = self._renew_at = 0.0
        self._expire_at = time.monotonic() + _MERCY_SECONDS

    def forget(self, worker: str) -> None:
        """Note that a worker's process has ended: its jobs go back to their queues at the next tick."""
        self._dead[worker] = not self._stopping
        self._dead_at = 0.0

    def note_stop(self) -> None:
        """Note that the workers were asked to stop: what ends them from now on is the stop, and nothing they work on.

        Redis hears of it at the next tick: should all of this pool be killed before it ends, others count no death.
        """
        self._stopping, self._renew_at = True, 0.0

    def tick(self, workers: Iterable[str]) -> None:
        """Do what is due; `workers` are the names of those alive.

        Raises redis.RedisError where Redis is unavailable; what else may be wrong is logged.
        """
        try:
            self._tick(workers)
        except redis.RedisError:
            self._let_all_renew()
            raise

    def close(self) -> None:
        """Give back what is left to give back."""
        try:
            if self._dead:
                self.attempt("maintenance_dead_workers", self._give_back_dead)
        finally:
            self._opened.close()

    def attempt(self, task: str, step: Callable[[], object]) -> bool:
        """Do a task; whether all of it went well. Raises redis.RedisError where Redis is unavailable."""
        return self.background.loop(task).attempt(step, reraise=UNAVAILABLE) == 0

    def _tick(self, workers: Iterable[str]) -> None:
        now = time.monotonic()
        if self._dead and now >= self._dead_at:
            self.attempt("maintenance_dead_workers", self._give_back_dead)
        # Before anything expires: leases end by the wall clock, which may have been set, and these workers live.
        if now >= min(self._renew_at, self._expire_at):
            alive = set(workers)
            # A worker that had just popped a job when it was asked to stop may still begin it.
            self._renew_at = now + (_LOOK_SECONDS if self._stopping else _RENEW_SECONDS)
            self.attempt("maintenance_leases", lambda: self._renew_all(alive))
        if now >= self._expire_at:
            self._expire_at = now + _EXPIRE_SECONDS
            # Where nothing is to be written a replica answers like a primary.
            self.attempt("maintenance_role", lambda: check_role(self._connection))
            self.attempt("maintenance_expired_leases", lambda: each(self._queue_names, self._give_back_expired))
            self.attempt("maintenance_worker_registry", lambda: each(self._queue_names, self._clean_registry))
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self.attempt("maintenance_abandoned_workers", self._look_after_abandoned)
            self.attempt("maintenance_orphans", lambda: each(self._queue_names, self._give_back_popped))
            self.attempt("maintenance_due_retries", lambda: each(self._queue_names, self._let_in_due))
        if self._trimming is not None and self._trimming.is_due:
            self.attempt("maintenance_trimming", self._trimming.tick)

    def _is_ours(self, worker: str) -> bool:
        return _queue_of(worker) in self._places

    def _look_after_abandoned(self) -> None:
        """Give back what workers had whose supervisors died with them, before those could do it."""
        dead = len(self._dead)
        try:
            each(self._notebooks.present(), self._look_after)
        finally:
            if len(self._dead) > dead:
                self.attempt("maintenance_dead_workers", self._give_back_dead)

    def _look_after(self, present: tuple[str, bool]) -> None:
        worker, lives = present
        if lives or not self._is_ours(worker):
            return
        if self._connection.exists(WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker)):
            self._dead.setdefault(worker, True)
            self._dead_at = 0.0
        elif self._notebooks.is_forgotten(worker):  # else its Redis may be another one
            self._notebooks.discard(worker)

    def _renew_all(self, ours: set[str]) -> None:
        neighbours = {worker for worker, lives in self._notebooks.present() if lives and self._is_ours(worker)}
        try:
            each(neighbours | ours, lambda worker: self._renew(worker, stopping=self._stopping and worker in ours))
        except ExceptionGroup as exc:
            if exc.subgroup(may_pass) is not None:
                self._let_all_renew()
            raise

    def _let_all_renew(self) -> None:
        """Let no lease end before everybody, on other machines too, had the time to renew those of the living."""
        self._renew_at, self._expire_at = 0.0, time.monotonic() + _MERCY_SECONDS

    def _renew(self, worker: str, *, stopping: bool) -> None:
        places = self._places[_queue_of(worker)]
        each(
            places.running(worker),
            lambda execution: places.renew(
                execution, lease_seconds=LEASE_SECONDS, runs_seconds=RUNS_SECONDS, stopping=stopping
            ),
        )

    def _give_back_dead(self) -> None:
        # Together with those that could not be given back before; none of them keeps another waiting.
        self._dead_at = time.monotonic() + _AGAIN_SECONDS
        try:
            each(list(self._dead.items()), self._give_back_one)
        except UNAVAILABLE:
            self._dead_at = 0.0
            raise

    def _give_back_one(self, dead: tuple[str, bool]) -> None:
        worker, died = dead
        queue = _queue_of(worker)
        each(self._places[queue].running(worker), lambda execution: self._put_back(queue, execution, died=died))
        with self._connection.pipeline() as pipe:
            pipe.srem(REDIS_WORKER_KEYS, keys.rq_worker(worker))
            pipe.srem(WORKERS_BY_QUEUE_KEY % queue, keys.rq_worker(worker))
            pipe.delete(keys.rq_worker(worker), WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker))
            pipe.execute()
        self._notebooks.discard(worker)
        self._dead.pop(worker, None)

    def _give_back_expired(self, queue: str) -> None:
        def give_back(member: bytes) -> None:
            execution = self._places[queue].run_of(member, "")
            execution.worker_name = as_text(self._connection.hget(execution.key, "worker_name") or b"")
            self._put_back(queue, execution, died=True)

        each(self._connection.zrangebyscore(keys.rq_started(queue), "-inf", time.time()), give_back)

    def _clean_registry(self, queue: str) -> None:
        clean_worker_registry(Queue(queue, connection=self._connection, serializer=queues.JsonSerializer))

    def _give_back_popped(self, queue: str) -> None:
        def give_back(member: bytes) -> None:
            job_id = as_text(member)
            if self._places[queue].give_back_popped(job_id):
                log.warning("action=job_given_back queue=%s job=%s", queue, job_id)

        before, popped = (
            self._popped.get(queue, set()),
            set(self._connection.lrange(keys.rq_intermediate(queue), 0, -1)),
        )
        self._popped[queue] = popped
        each(popped & before, give_back)

    def _let_in_due(self, queue: str) -> None:
        self._places[queue].let_in_due(most=_DUE_A_STEP)

    def _put_back(self, queue: str, execution: Execution, *, died: bool) -> None:
        finished = self._notebooks.read(execution.worker_name)
        if self._places[queue].put_back(execution, to="front", finished=finished, died=died):
            log.warning("action=job_given_back queue=%s job=%s", queue, execution.job_id)


def _queue_of(worker: str) -> str:
    """Give the queue of a worker named by the supervisor: <queue>-<32 hexadecimal digits>."""
    return worker.rpartition("-")[0]
