"""A run claims jobs: the one that RQ has popped, as many of those waiting behind it as fit, and more while it lasts.

Each step is one Lua script, so a job is always either in its queue or on the list of exactly one run. What the claimed
jobs hold is read afterwards.
"""

import math
from collections.abc import Sequence
from typing import Any

import redis
from msgspec import Struct

from shared import keys, progress, queue_jobs, queues
from shared.structured_log import get_logger
from workers.runtime import completion_journal, scripts
from workers.runtime.run_errors import HandlerPaused, StaleRun

log = get_logger("callbacks.worker")


class ClaimedJob(Struct, frozen=True):
    """A job of a run: its id, what of it was settled before (see `shared.progress`), its arguments.

    `coalesced`: it was claimed with the running job. It is deleted once settled, the running job at the run's end.
    `size_bytes` is the size of its data, 0 for the running job. `items` is how many it was enqueued with, 0 if
    unknown. `deaths`: how many workers died with it since it last made progress. `finished`: the positions of the items
    that handlers finished in those workers. `is_probe`: the handler's pause is over if one event, which this run
    tries first, succeeds. `has_portions`: other handlers may have some of its events too. `has_forgotten`:
    numbers are forgotten, so a round of expand has to ask which.
    """

    job_id: str
    progress: str
    arguments: list[Any]
    coalesced: bool
    size_bytes: int = 0
    deaths: int = 0
    finished: frozenset[int] = frozenset()
    is_probe: bool = False
    items: int = 0
    has_portions: bool = False
    has_forgotten: bool = False


class ClaimStep:
    """The scripts that claim jobs of one queue, loaded over one connection. Each method raises redis.RedisError.

    `handler` is the one whose queue it is; "" for the queue "expand". The run that tries one event after a pause is the
    only one for `probe_seconds`.
    """

    def __init__(self, connection: redis.Redis, queue: str, *, handler: str = "", probe_seconds: float = 0.0) -> None:
        self._connection = connection
        self._queue = queue
        self._handler = handler
        self._probe_ms = math.ceil(probe_seconds * 1000)
        fragments = ("allow_oom", "clock", "pause_state", "requeue_coalesced", "portions", "coalesce")
        self._claim = connection.register_script(scripts.load(*fragments, "claim"))
        self._claim_more = connection.register_script(scripts.load(*fragments, "claim_more"))
        self._release = connection.register_script(scripts.load("allow_oom", "types", "release"))

    def claim(
        self, *, job_id: str, worker: str, own_arguments: Sequence[Any], max_items: int, max_bytes: int
    ) -> list[ClaimedJob]:
        """Claim the running job and those waiting behind it, up to the limits; return all of them, that job first.

        A job that this release cannot read goes to the end of the queue, where it will run alone. Raise StaleRun if
        `worker` does not run the job any more, and HandlerPaused while the handler is paused.
        """
        settled, *rest = self._claim(
            keys=self._keys(job_id),
            args=[
                max_items,
                max_bytes,
                keys.job(""),
                keys.COALESCED_PREFIX,
                worker,
                self._probe_ms,
                keys.PAUSE_KEPT_MS,
            ],
        )
        if settled is None:
            raise StaleRun
        if settled == 0:
            raise HandlerPaused(HandlerPaused.__doc__)
        deaths, finished, is_probe, items, has_portions, has_forgotten, *others = rest
        # RQ has read the running job's data, but not its portions.
        own = queue_jobs.read_stored(self._connection, [job_id])[0].portions if has_portions else ()
        running = ClaimedJob(
            job_id,
            settled.decode(),
            queues.with_portions(queues.check_version(own_arguments), own),
            coalesced=False,
            deaths=deaths,
            finished=completion_journal.parse_finished(finished.decode()),
            is_probe=bool(is_probe),
            items=int(items or 0),
            has_portions=bool(has_portions),
            has_forgotten=bool(has_forgotten),
        )
        return [running, *self._read_coalesced(job_id, others, has_forgotten=running.has_forgotten)]

    def claim_more(self, *, job_id: str, worker: str, max_items: int, max_bytes: int) -> list[ClaimedJob]:
        """Claim more of the waiting jobs for a run that is in progress in `worker`; return them.

        Return none if the run has lost its job, or if the handler is paused. After a redis.RedisError nobody
        knows whether jobs were claimed, so the running job has to be requeued: its next run finds them.
        """
        has_forgotten, *found = self._claim_more(
            keys=self._keys(job_id), args=[max_items, max_bytes, keys.job(""), keys.COALESCED_PREFIX, worker]
        )
        return self._read_coalesced(job_id, found, has_forgotten=bool(has_forgotten))

    def release(self, job_id: str, other: str, error: Exception) -> None:
        """Put `other`, a coalesced job that cannot be read, back into the queue, where it will run alone."""
        log.error("job_unreadable", queue=self._queue, job=other, error=error)
        self._release(keys=[keys.rq_queue(self._queue), keys.coalesced(job_id), keys.job(other)], args=[other])

    def _read_coalesced(
        self, job_id: str, found: Sequence[Sequence[bytes]], *, has_forgotten: bool
    ) -> list[ClaimedJob]:
        claimed_jobs = []
        stored = queue_jobs.read_stored(self._connection, [other.decode() for other, *_ in found])
        for (other, settled, finished, items), job in zip(found, stored, strict=True):
            try:
                claimed = ClaimedJob(
                    other.decode(),
                    settled.decode(),
                    job.arguments(),
                    coalesced=True,
                    finished=completion_journal.parse_finished(finished.decode()),
                    size_bytes=job.size_bytes,
                    items=int(items or 0),
                    has_portions=bool(job.portions),
                    has_forgotten=has_forgotten,
                )
                progress.parse(claimed.progress)
            except Exception as exc:  # noqa: BLE001 # one job that cannot be read must not delay the others
                self.release(job_id, other.decode(), exc)
                continue
            claimed_jobs.append(claimed)
        return claimed_jobs

    def _keys(self, job_id: str) -> list[str]:
        """Return the keys of a claim, in the order of the scripts."""
        own = [keys.rq_queue(self._queue), keys.coalesced(job_id), keys.job(job_id)]
        return [*own, keys.paused(self._handler)] if self._handler else own
