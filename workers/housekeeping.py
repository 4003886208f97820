"""What a supervisor does for its queues while its workers work: due retries, leases, and dead workers' jobs.

Retries wait in RQ's registry of scheduled jobs, and RQ's scheduler moves them, but here, in the supervisor, instead of
one more process beside every worker. A worker busy in its handler cannot renew its own lease; its supervisor, who
sees that it lives, does. Four ways lead back into the queue: the supervisor saw the worker die; both died, and left
the worker's notebook on this machine; the lease ran out, as the machine is gone; the job was popped, and for a second
nobody started it.
"""

import logging
import time
from collections.abc import Iterable
from typing import Any, Final

import redis
from rq import Queue
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution
from rq.registry import StartedJobRegistry
from rq.scheduler import RQScheduler
from rq.utils import as_text
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY, clean_worker_registry

from shared import keys, queues
from workers.notebook import Notebooks
from workers.places import Places
from workers.rq_worker import LEASE_SECONDS, RUNS_SECONDS
from workers.trimming import Trimming

log = logging.getLogger("callbacks.supervisor")

_LOOK_SECONDS: Final = 1.0
_RENEW_SECONDS: Final = 10.0
_EXPIRE_SECONDS: Final = 5.0
# While Redis was away no lease could be renewed. Whoever lives gets the time to do it before leases end again.
_MERCY_SECONDS: Final = 2 * _RENEW_SECONDS


class Housekeeping:
    """Keeps `queue_names` over a connection of its own."""

    def __init__(
        self,
        queue_names: Iterable[str],
        *,
        connection: redis.Redis,
        notebooks: Notebooks | None = None,
        trimming: Trimming | None = None,
    ) -> None:
        self._connection = connection
        self._trimming = trimming
        self._notebooks = notebooks or Notebooks()
        self._queue_names = sorted(set(queue_names))
        self._places = {name: Places(name, connection=connection) for name in self._queue_names}
        self._popped: dict[str, set[str]] = {}
        self._scheduler = _Scheduler(self._queue_names, connection)
        self._dead: list[str] = []
        self._look_at = self._renew_at = 0.0
        self._expire_at = time.monotonic() + _MERCY_SECONDS

    def forget(self, worker: str) -> None:
        """Note that a worker's process has ended: its jobs go back to their queues at the next tick."""
        self._dead.append(worker)

    def tick(self, workers: Iterable[str]) -> None:
        """Do what is due; `workers` are the names of those alive. Raises redis.RedisError."""
        try:
            self._tick(workers)
        except redis.RedisError:
            self._renew_at, self._expire_at = 0.0, time.monotonic() + _MERCY_SECONDS
            raise

    def close(self) -> None:
        """Give back what is left to give back, and the scheduler's locks."""
        try:
            self._give_back_dead()
            self._scheduler.retire()
        finally:
            self._connection.close()

    def _tick(self, workers: Iterable[str]) -> None:
        self._give_back_dead()
        now = time.monotonic()
        if now >= self._renew_at:
            for worker in workers:
                self._renew(worker)
            self._renew_at = now + _RENEW_SECONDS
        if now >= self._expire_at:
            for name in self._queue_names:
                self._give_back_expired(name)
            self._expire_at = now + _EXPIRE_SECONDS
        if now >= self._look_at:
            # Of supervisors that died with their workers, before they could give anything back.
            self._dead += [worker for worker in self._notebooks.abandoned() if _queue_of(worker) in self._places]
            self._give_back_dead()
            for name in self._queue_names:
                self._give_back_popped(name)
            self._scheduler.step()
            self._look_at = now + _LOOK_SECONDS
        if self._trimming is not None:
            self._trimming.tick()

    def _running(self, worker: str) -> list[Execution]:
        members = self._connection.smembers(WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker))
        return [self._execution(member, worker) for member in members]

    def _execution(self, member: Any, worker: str = "") -> Execution:
        execution = Execution.from_composite_key(as_text(member), connection=self._connection)
        execution.worker_name = worker
        return execution

    def _renew(self, worker: str) -> None:
        registry = StartedJobRegistry(_queue_of(worker), connection=self._connection, serializer=queues.JsonSerializer)
        for execution in self._running(worker):
            with self._connection.pipeline() as pipe:
                execution.heartbeat(registry, LEASE_SECONDS, pipe)
                # RQ lets a worker that is busy for longer than its lease be forgotten, and what it runs with it.
                pipe.expire(WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker), RUNS_SECONDS)
                pipe.expire(_key_of(worker), LEASE_SECONDS + 60)
                pipe.execute()

    def _give_back_dead(self) -> None:
        while self._dead:
            worker = self._dead[-1]
            for execution in self._running(worker):
                self._put_back(_queue_of(worker), execution)
            with self._connection.pipeline() as pipe:
                pipe.srem(REDIS_WORKER_KEYS, _key_of(worker))
                pipe.srem(WORKERS_BY_QUEUE_KEY % _queue_of(worker), _key_of(worker))
                pipe.delete(_key_of(worker), WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker))
                pipe.execute()
            self._notebooks.discard(worker)
            self._dead.pop()

    def _give_back_expired(self, queue: str) -> None:
        for member in self._connection.zrangebyscore(keys.rq_started(queue), "-inf", time.time()):
            execution = self._execution(member)
            execution.worker_name = as_text(self._connection.hget(execution.key, "worker_name") or b"")
            self._put_back(queue, execution)
        clean_worker_registry(Queue(queue, connection=self._connection, serializer=queues.JsonSerializer))

    def _give_back_popped(self, queue: str) -> None:
        popped = {as_text(job_id) for job_id in self._connection.lrange(keys.rq_intermediate(queue), 0, -1)}
        for job_id in popped & self._popped.get(queue, set()):
            if self._places[queue].give_back_popped(job_id):
                log.warning("action=job_given_back queue=%s job=%s", queue, job_id)
        self._popped[queue] = popped

    def _put_back(self, queue: str, execution: Execution) -> None:
        finished = self._notebooks.read(execution.worker_name)
        if self._places[queue].put_back(execution, to="front", finished=finished, died=True):
            log.warning("action=job_given_back queue=%s job=%s", queue, execution.job_id)


class _Scheduler(RQScheduler):
    """RQ's scheduler, a step at a time, in the process and over the connection of whoever calls it."""

    def __init__(self, queue_names: Iterable[str], connection: redis.Redis) -> None:
        super().__init__(list(queue_names), connection, serializer=queues.JsonSerializer, logging_level=logging.WARNING)
        self._own = connection
        self._registered = False

    @property
    def connection(self) -> redis.Redis:
        """The caller's connection, where RQ would open one of its own after a fork."""
        return self._own

    def step(self) -> None:
        """Move what is due to its queue, for the queues whose lock this scheduler holds. Raises redis.RedisError."""
        if not self._registered:
            self.register_birth()
            self._registered = True
        # Locks of a supervisor that died last 61 s, so the others' are tried for again and again.
        self.acquire_locks()
        if self.acquired_locks:
            self.heartbeat()
            self.enqueue_scheduled_jobs()

    def retire(self) -> None:
        """Leave the queues to another scheduler at once, without waiting for the locks to expire."""
        self.release_locks()
        if self._registered:
            self.register_death()


def _queue_of(worker: str) -> str:
    """Give the queue of a worker named by the supervisor: <queue>-<32 hexadecimal digits>."""
    return worker.rpartition("-")[0]


def _key_of(worker: str) -> str:
    """Name RQ's hash of a worker."""
    return f"rq:worker:{worker}"
