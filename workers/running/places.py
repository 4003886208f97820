"""Where a job is: waiting in its queue, popped, or running. It moves from one place to the next in one step (I3).

RQ writes the same keys, in several commands, and takes nobody's word that a run still holds its job. Here only whoever
finds the job in its old place moves it: a job that two have given up for dead is put back once, and one that was
given back is not started by the worker that popped it.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import redis
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution, ExecutionRegistry
from rq.utils import as_text

from shared import keys, progress
from workers.running import scripts
from workers.running.notebook import Notes


class Places:
    """The moves, for the jobs of one queue, over one connection. Each raises redis.RedisError."""

    def __init__(self, queue: str, *, connection: redis.Redis) -> None:
        self._queue = queue
        self._connection: Any = connection
        self._start = connection.register_script(scripts.text("at_limit", "start"))
        self._put_back = connection.register_script(scripts.text("at_limit", "put_back"))
        self._due = connection.register_script(scripts.text("at_limit", "due"))
        self._renew = connection.register_script(scripts.text("at_limit", "renew"))
        self._return = connection.register_script(scripts.text("at_limit", "return"))

    def start(self, job_id: str, commands: Iterable[Sequence[Any]]) -> bool:
        """Enter a popped job as running, by `commands` of RQ; False if it is popped no more, so not to be run."""
        arguments: list[Any] = [job_id]
        for command in commands:
            arguments += (len(command), *command)
        places = [
            keys.rq_intermediate(self._queue),
            keys.job(job_id),
            keys.rq_queue(self._queue),
            keys.taken(job_id),
        ]
        return bool(self._start(keys=places, args=arguments))

    def running(self, worker: str) -> list[Execution]:
        """Give the runs that Redis says a worker has."""
        members = self._connection.smembers(WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker))
        return [self.run_of(member, worker) for member in members]

    def run_of(self, member: Any, worker: str) -> Execution:
        """Give a run as RQ's registries name it, <job id>:<execution id>."""
        execution = Execution.from_composite_key(as_text(member), connection=self._connection)
        execution.worker_name = worker
        return execution

    def put_back(
        self,
        execution: Execution,
        *,
        to: Literal["front", "back"],
        finished: Notes,
        died: bool = False,
        with_taken: bool = False,
    ) -> bool:
        """End a run, and put its job back if the run still held it; tell whether it did.

        `finished` is what the run's handler had done beyond what is settled: the job's next run settles it as done.
        `with_taken`: the jobs that it took along go back too, behind it; else they wait for its next run.
        """
        notes = [word for job_id, places in finished.items() for word in (keys.job(job_id), progress.write(places))]
        return bool(
            self._put_back(
                keys=[
                    keys.rq_started(self._queue),
                    keys.job(execution.job_id),
                    keys.rq_queue(self._queue),
                    keys.taken(execution.job_id),
                    execution.key,
                    ExecutionRegistry.key_template.format(execution.job_id),
                    WORKER_EXECUTIONS_KEY_TEMPLATE.format(execution.worker_name),
                ],
                args=[execution.job_id, execution.id, to, int(died), int(with_taken), *notes],
            )
        )

    def has_taken(self, job_id: str) -> bool:
        """Tell whether there are jobs that a run of this one took along, and that are not settled."""
        return bool(self._connection.exists(keys.taken(job_id)))

    def renew(self, execution: Execution, *, lease_seconds: int, runs_seconds: int) -> bool:
        """Give a run `lease_seconds` more; False if it has ended. Who runs it is known for `runs_seconds`."""
        return bool(
            self._renew(
                keys=[
                    keys.rq_started(self._queue),
                    execution.key,
                    ExecutionRegistry.key_template.format(execution.job_id),
                    WORKER_EXECUTIONS_KEY_TEMPLATE.format(execution.worker_name),
                    keys.rq_worker(execution.worker_name),
                ],
                args=[execution.composite_key, execution.id, time.time(), lease_seconds, runs_seconds],
            )
        )

    def let_in_due(self, *, most: int) -> None:
        """Move the jobs that are due, at most so many, from the registry of scheduled jobs to the queue."""
        registry, queue = keys.rq_scheduled(self._queue), keys.rq_queue(self._queue)
        self._due(keys=[registry, queue], args=[time.time(), most, keys.job("")])

    def give_back_popped(self, job_id: str) -> bool:
        """Put a job that was popped and not started back to the front; tell whether it stood there still."""
        return bool(
            self._return(
                keys=[
                    keys.rq_intermediate(self._queue),
                    keys.job(job_id),
                    keys.rq_queue(self._queue),
                    keys.taken(job_id),
                ],
                args=[job_id],
            )
        )
