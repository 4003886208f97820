"""The states of a job: waiting in its queue, popped, running, scheduled. Each transition is one step (I3).

RQ changes the same keys in several commands, and does not check that a run still holds its job. Here a job moves only
from the state in which the caller believes it to be: one that two supervisors requeue is in the queue once, and one
that was requeued is not started by the worker that had popped it.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import redis
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution, ExecutionRegistry
from rq.utils import as_text

from shared import keys, progress
from shared.structured_log import get_logger
from workers.runtime import scripts
from workers.runtime.completion_journal import Completions
from workers.runtime.run_errors import SettlementFailed
from workers.runtime.settlement import Argument, Replacement, append_list, failure_arguments, flatten

# A job that fails as a whole is retried after 1, 4, 16, 60, 60, … seconds: soon enough after the cause is repaired.
MAX_WAIT_SECONDS: Final = 60.0

log = get_logger("callbacks.worker")

_MAX_LOGGED_CHARACTERS: Final = 80
# Each is logged once. With more than these, they are logged again.
_MAX_UNREADABLE: Final = 100
# As end.lua returns it.
_UNSETTLED: Final = 2


class JobTransitions:
    """The transitions of the jobs of one queue, over one connection. Each method raises redis.RedisError."""

    def __init__(self, queue: str, *, connection: redis.Redis) -> None:
        self._queue = queue
        self._connection: Any = connection
        self._unreadable: set[tuple[str, str]] = set()
        fragments = ("allow_oom", "types", "requeue_coalesced")
        self._start = connection.register_script(
            scripts.load("allow_oom", "clock", "run_commands", "requeue_coalesced", "start")
        )
        self._end = connection.register_script(scripts.load("allow_oom", "types", "run_commands", "end"))
        self._requeue = connection.register_script(scripts.load(*fragments, "requeue"))
        self._replace = connection.register_script(
            scripts.load(*fragments, "arguments", "portions", "settlement", "enqueue", "replace")
        )
        self._promote = connection.register_script(scripts.load("allow_oom", "types", "promote_job", "promote"))
        self._promote_now = connection.register_script(scripts.load("types", "promote_job", "promote_now"))
        self._renew = connection.register_script(scripts.load("allow_oom", "clock", "renew"))
        self._requeue_orphan = connection.register_script(scripts.load(*fragments, "requeue_orphan"))

    def start(self, execution: Execution, commands: Iterable[Sequence[Any]], *, lease_seconds: int) -> bool:
        """Start a popped job by `commands` of RQ; return False if it is no longer popped and so must not run.

        Its lease ends by Redis's clock: those of the hosts need not agree.
        """
        registry = keys.rq_started(self._queue)
        key_names = [
            keys.rq_intermediate(self._queue),
            keys.job(execution.job_id),
            keys.rq_queue(self._queue),
            keys.coalesced(execution.job_id),
            registry,
        ]
        # RQ's own entry in the registry has the time of this host.
        others = [words for words in commands if words[:2] != ("ZADD", registry)]
        arguments = [execution.job_id, execution.composite_key, lease_seconds, *_with_lengths(others)]
        return bool(self._start(keys=key_names, args=arguments))

    def end(self, execution: Execution, commands: Iterable[Sequence[Any]]) -> bool:
        """End a run whose job is done, delete the job, and send `commands` of RQ about its worker.

        Return False, and change nothing, if jobs that the run coalesced are not settled; raise SettlementFailed, and
        change nothing, if some of the job itself is not: then a further run at once might end in the same way.
        """
        arguments = [execution.job_id, execution.id, *_with_lengths(commands)]
        ended = self._end(keys=self._run_keys(execution), args=arguments)
        if ended == _UNSETTLED:
            raise SettlementFailed("Redis fell back during the run: what was settled is open again")
        return bool(ended)

    def list_executions(self, worker: str) -> list[Execution]:
        """Return the runs that Redis says a worker has. What is not the name of a run is logged and skipped."""
        found: list[Execution] = []
        for member in self._connection.smembers(WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker)):
            try:
                found.append(self.parse_execution(member, worker))
            except ValueError:
                self._log_unreadable(worker, repr(member))
        return found

    def _log_unreadable(self, worker: str, member: str) -> None:
        if (worker, member) in self._unreadable:
            return
        if len(self._unreadable) >= _MAX_UNREADABLE:
            self._unreadable.clear()
        self._unreadable.add((worker, member))
        shown = member[:_MAX_LOGGED_CHARACTERS]
        log.warning("execution_unreadable", queue=self._queue, worker=worker, member=shown)

    def parse_execution(self, member: Any, worker: str) -> Execution:
        """Return a run as RQ's registries name it, <job id>:<execution id>. Raise ValueError for anything else."""
        job_id, _, run_id = as_text(member).partition(":")
        if not job_id or not run_id or ":" in run_id:
            raise ValueError("not <job id>:<execution id>")
        return Execution(id=run_id, job_id=job_id, connection=self._connection, worker_name=worker)

    def requeue(
        self,
        execution: Execution,
        *,
        to: Literal["front", "back", "later", "waiting"],
        finished: Completions,
        died: bool = False,
        with_coalesced: bool = False,
    ) -> bool:
        """End a run, and put its job back into the queue if the run still held it; return whether it did.

        `finished` is what the run's handler had finished beyond what is settled: the job's next run settles it as done.
        `with_coalesced`: the jobs that it coalesced go back too, behind it; otherwise they wait for its next run.
        "later" counts a failure: the job waits, longer each time, and it and those that it coalesced run alone.
        "waiting" does the same, but does not bring the job nearer to its move to the failures.
        """
        completions = [
            word for job_id, positions in finished.items() for word in (keys.job(job_id), progress.to_text(positions))
        ]
        return bool(
            self._requeue(
                keys=[
                    *self._run_keys(execution),
                    keys.rq_scheduled(self._queue),
                ],
                args=[
                    execution.job_id,
                    execution.id,
                    to,
                    int(died),
                    int(with_coalesced),
                    time.time(),
                    MAX_WAIT_SECONDS,
                    keys.job(""),
                    *completions,
                ],
            )
        )

    def replace(self, execution: Execution, replacement: Replacement) -> bool:
        """End a run and put the replacement in the place of its job, if the run held that; return whether it did."""
        arguments: list[Argument] = [keys.job(execution.job_id), "", 0, execution.job_id, execution.id]
        append_list(
            arguments,
            [(*replacement.counters(each), each.records, *failure_arguments(each)) for each in replacement.failures],
        )
        jobs: list[tuple[Argument, ...]]
        jobs = [(keys.job(job_id), job_id, *flatten(fields)) for job_id, fields in replacement.jobs]
        append_list(arguments, jobs)
        return bool(
            self._replace(
                keys=[
                    *self._run_keys(execution),
                    keys.COUNTS,
                    replacement.index,
                ],
                args=arguments,
            )
        )

    def _run_keys(self, execution: Execution) -> list[str]:
        """Return the keys of a run and its job, in the order of the scripts that end a run."""
        return [
            keys.rq_started(self._queue),
            keys.job(execution.job_id),
            keys.rq_queue(self._queue),
            keys.coalesced(execution.job_id),
            execution.key,
            ExecutionRegistry.key_template.format(execution.job_id),
            WORKER_EXECUTIONS_KEY_TEMPLATE.format(execution.worker_name),
        ]

    def renew(self, execution: Execution, *, lease_seconds: int, runs_seconds: int, stopping: bool = False) -> bool:
        """Extend a run's lease to `lease_seconds` from now; return False if it has ended.

        The keys that say who runs it live for `runs_seconds`. `stopping`: its worker was asked to stop, so from now on
        its end does not count as a death.
        """
        return bool(
            self._renew(
                keys=[
                    keys.rq_started(self._queue),
                    execution.key,
                    ExecutionRegistry.key_template.format(execution.job_id),
                    WORKER_EXECUTIONS_KEY_TEMPLATE.format(execution.worker_name),
                    keys.rq_worker(execution.worker_name),
                ],
                args=[execution.composite_key, execution.id, lease_seconds, runs_seconds, int(stopping)],
            )
        )

    def promote_due(self, *, limit: int) -> None:
        """Move the jobs that are due, at most `limit`, from the registry of scheduled jobs to the queue."""
        registry, queue = keys.rq_scheduled(self._queue), keys.rq_queue(self._queue)
        self._promote(keys=[registry, queue], args=[time.time(), limit, keys.job("")])

    def promote(self, job_ids: Sequence[str]) -> int:
        """Move scheduled jobs to the queue though they are not due, in one step; return how many were scheduled."""
        registry, queue = keys.rq_scheduled(self._queue), keys.rq_queue(self._queue)
        return int(self._promote_now(args=[registry, queue, keys.job(""), *job_ids]))

    def requeue_orphan(self, job_id: str) -> bool:
        """Put a job that was popped and not started back to the front; return whether it was still in that state."""
        return bool(
            self._requeue_orphan(
                keys=[
                    keys.rq_intermediate(self._queue),
                    keys.job(job_id),
                    keys.rq_queue(self._queue),
                    keys.coalesced(job_id),
                ],
                args=[job_id],
            )
        )


def _with_lengths(commands: Iterable[Sequence[Any]]) -> list[Any]:
    """Return the words of commands as `run_commands.lua` expects them."""
    return [word for command in commands for word in (len(command), *command)]
