"""What a supervisor does for its queues while its workers work: due retries, leases, and dead workers' jobs.

Retries wait in RQ's registry of scheduled jobs, and RQ's scheduler moves them, but here, in the supervisor, instead of
one more process beside every worker. A worker busy in its handler cannot renew its own lease; its supervisor, who
sees that it lives, does.
"""

import logging
import time
from collections.abc import Iterable
from typing import Final

import redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.scheduler import RQScheduler
from rq.utils import as_text
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from shared import queues
from workers.rq_worker import LEASE_SECONDS

log = logging.getLogger("callbacks.supervisor")

_SCHEDULE_SECONDS: Final = 1.0
_RENEW_SECONDS: Final = 10.0


class Housekeeping:
    """Keeps `queue_names` over a connection of its own."""

    def __init__(self, queue_names: Iterable[str], *, connection: redis.Redis) -> None:
        self._connection = connection
        self._queue_names = sorted(set(queue_names))
        self._scheduler = _Scheduler(self._queue_names, connection)
        self._dead: list[str] = []
        self._schedule_at = self._renew_at = 0.0

    def forget(self, worker: str) -> None:
        """Note that a worker's process has ended: its jobs go back to their queues at the next tick."""
        self._dead.append(worker)

    def tick(self, workers: Iterable[str]) -> None:
        """Do what is due; `workers` are the names of those alive. Raises redis.RedisError."""
        while self._dead:
            self._give_back(self._dead[-1])
            self._dead.pop()
        now = time.monotonic()
        if now >= self._schedule_at:
            self._schedule_at = now + _SCHEDULE_SECONDS
            self._scheduler.step()
        if now >= self._renew_at:
            self._renew_at = now + _RENEW_SECONDS
            for worker in workers:
                self._renew(worker)

    def close(self) -> None:
        """Give back what is left to give back, and the scheduler's locks."""
        while self._dead:
            self._give_back(self._dead.pop())
        self._scheduler.retire()
        self._connection.close()

    def _running(self, worker: str) -> list[Execution]:
        key = WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker)
        members = self._connection.smembers(key)
        return [Execution.from_composite_key(as_text(member), connection=self._connection) for member in members]

    def _renew(self, worker: str) -> None:
        for execution in self._running(worker):
            registry = self._started(_queue_of(worker))
            with self._connection.pipeline() as pipe:
                execution.heartbeat(registry, LEASE_SECONDS, pipe)
                pipe.execute()

    def _give_back(self, worker: str) -> None:
        queue = Queue(_queue_of(worker), connection=self._connection, serializer=queues.JsonSerializer)
        for execution in self._running(worker):
            execution.worker_name = worker
            with self._connection.pipeline() as pipe:
                try:
                    job = Job.fetch(execution.job_id, connection=self._connection, serializer=queues.JsonSerializer)
                except NoSuchJobError:
                    self._started(queue.name).remove_execution(execution, pipeline=pipe)
                else:
                    job.enqueue_at_front_on_retry = True
                    execution.delete(job, pipe)
                    pipe.lrem(queue.intermediate_queue_key, 1, job.id)
                    job.retry(queue, pipe)
                    log.warning("action=job_given_back queue=%s job=%s", queue.name, job.id)
                pipe.execute()
        with self._connection.pipeline() as pipe:
            key = f"rq:worker:{worker}"
            pipe.srem(REDIS_WORKER_KEYS, key)
            pipe.srem(WORKERS_BY_QUEUE_KEY % queue.name, key)
            pipe.delete(key, WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker))
            pipe.execute()

    def _started(self, queue: str) -> StartedJobRegistry:
        return StartedJobRegistry(queue, connection=self._connection, serializer=queues.JsonSerializer)


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
