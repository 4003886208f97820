"""What a supervisor does for its queues while its workers work: due retries, leases, and dead workers' jobs.

Retries wait in RQ's registry of scheduled jobs. RQ's scheduler would be one more process beside every worker, and moves
a job that another one has moved meanwhile a second time; here it is one step of any supervisor. A worker busy in its
handler cannot renew its own lease; its supervisor, who sees that it lives, does, or, if that one died, another on its
machine. Four ways lead back into the queue: the supervisor saw the worker die; both died, and left
the worker's notebook on this machine; the lease ran out, as the machine is gone; the job was popped, and for a second
nobody started it.
"""

import logging
import time
from collections.abc import Iterable
from typing import Final

import redis
from rq import Queue
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution
from rq.utils import as_text
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY, clean_worker_registry

from shared import keys, queues
from workers.running.notebooks import Notebooks
from workers.running.oom_fallback import OomFallbackRedis
from workers.running.places import Places
from workers.running.rq_worker import LEASE_SECONDS, RUNS_SECONDS
from workers.running.trimming import Trimming

log = logging.getLogger("callbacks.supervisor")

_LOOK_SECONDS: Final = 1.0
_RENEW_SECONDS: Final = 10.0
_EXPIRE_SECONDS: Final = 5.0
_DUE_A_STEP: Final = 1000
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
        self._opened = connection
        self._connection = OomFallbackRedis(connection)
        self._trimming = trimming
        self._notebooks = notebooks or Notebooks()
        self._queue_names = sorted(set(queue_names))
        self._places = {name: Places(name, connection=connection) for name in self._queue_names}
        self._popped: dict[str, set[str]] = {}
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
        """Give back what is left to give back."""
        try:
            self._give_back_dead()
        finally:
            self._opened.close()

    def _tick(self, workers: Iterable[str]) -> None:
        self._give_back_dead()
        now = time.monotonic()
        # Before anything expires: leases end by the wall clock, which may have been set, and these workers live.
        if now >= min(self._renew_at, self._expire_at):
            neighbours = {worker for worker, lives in self._notebooks.present() if lives and self._is_ours(worker)}
            for worker in neighbours.union(workers):
                self._renew(worker)
            self._renew_at = now + _RENEW_SECONDS
        if now >= self._expire_at:
            for name in self._queue_names:
                self._give_back_expired(name)
            self._expire_at = now + _EXPIRE_SECONDS
        if now >= self._look_at:
            self._look_after_abandoned()
            for name in self._queue_names:
                self._give_back_popped(name)
                self._places[name].let_in_due(most=_DUE_A_STEP)
            self._look_at = now + _LOOK_SECONDS
        if self._trimming is not None:
            self._trimming.tick()

    def _is_ours(self, worker: str) -> bool:
        return _queue_of(worker) in self._places

    def _look_after_abandoned(self) -> None:
        """Give back what workers had whose supervisors died with them, before those could do it."""
        for worker, lives in self._notebooks.present():
            if lives or not self._is_ours(worker):
                continue
            if self._connection.exists(WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker)):
                self._dead.append(worker)
            elif self._notebooks.is_forgotten(worker):  # else its Redis may be another one
                self._notebooks.discard(worker)
        self._give_back_dead()

    def _renew(self, worker: str) -> None:
        places = self._places[_queue_of(worker)]
        for execution in places.running(worker):
            places.renew(execution, lease_seconds=LEASE_SECONDS, runs_seconds=RUNS_SECONDS)

    def _give_back_dead(self) -> None:
        while self._dead:
            worker = self._dead[-1]
            for execution in self._places[_queue_of(worker)].running(worker):
                self._put_back(_queue_of(worker), execution)
            with self._connection.pipeline() as pipe:
                pipe.srem(REDIS_WORKER_KEYS, keys.rq_worker(worker))
                pipe.srem(WORKERS_BY_QUEUE_KEY % _queue_of(worker), keys.rq_worker(worker))
                pipe.delete(keys.rq_worker(worker), WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker))
                pipe.execute()
            self._notebooks.discard(worker)
            self._dead.pop()

    def _give_back_expired(self, queue: str) -> None:
        for member in self._connection.zrangebyscore(keys.rq_started(queue), "-inf", time.time()):
            execution = self._places[queue].run_of(member, "")
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


def _queue_of(worker: str) -> str:
    """Give the queue of a worker named by the supervisor: <queue>-<32 hexadecimal digits>."""
    return worker.rpartition("-")[0]
