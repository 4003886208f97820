"""What waits for one handler: how many events, since when, how many are running or to be tried again, and for whom.

Read from RQ's keys and the jobs themselves, in a few round trips; nothing is changed. The figures are of one moment
only as far as nothing moves.
"""

from datetime import datetime
from typing import Any

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from shared import audit, events, keys, progress, queues
from shared.stored_times import stored_time


class QueueState(Struct, frozen=True, kw_only=True):
    """The state of a handler's queue; all but `jobs` and `workers` count events.

    `waiting` is what a worker may take now, in `jobs` jobs; `scheduled` what failed and waits for its next attempt, the
    first of them at `next_attempt_at`. `oldest_at` is when the event that is first in the queue was received.
    """

    waiting: int
    jobs: int
    running: int
    scheduled: int
    dead: int
    oldest_at: datetime | None
    next_attempt_at: datetime | None
    workers: int

    @property
    def total(self) -> int:
        """How many events there are that are neither delivered nor set aside."""
        return self.waiting + self.running + self.scheduled


def read_state(connection: redis.Redis, handler: str) -> QueueState:
    """Tell what waits for a handler. Raises redis.RedisError."""
    queue = queues.delivery_queue(handler)
    with connection.pipeline(transaction=False) as pipe:
        pipe.lrange(keys.rq_queue(queue), 0, -1)
        pipe.lrange(keys.rq_intermediate(queue), 0, -1)
        pipe.zrange(keys.rq_failed(queue), 0, -1)
        pipe.zrange(keys.rq_scheduled(queue), 0, -1, withscores=True)
        pipe.zrange(keys.rq_started(queue), 0, -1)
        pipe.zcard(keys.dead(handler))
        pipe.smembers(WORKERS_BY_QUEUE_KEY % queue)
        in_queue, claimed, failed, scheduled_members, started, dead, workers = pipe.execute()
    running = audit.with_coalesced(connection, {as_text(member).partition(":")[0] for member in started})
    first = {as_text(job_id) for job_id in (*in_queue, *claimed, *failed)}
    # A job that was taken along by one that waits again is no entry of the queue, and waits with it.
    waiting = audit.with_coalesced(connection, first) - running
    scheduled = {as_text(job_id) for job_id, _ in scheduled_members} - running - waiting
    return QueueState(
        waiting=audit.count_unsettled(connection, waiting),
        jobs=len(waiting),
        running=audit.count_unsettled(connection, running),
        scheduled=audit.count_unsettled(connection, scheduled),
        dead=dead,
        oldest_at=_oldest(connection, as_text(in_queue[0])) if in_queue else None,
        next_attempt_at=stored_time(scheduled_members[0][1] * 1000) if scheduled_members else None,
        workers=sum(connection.exists(worker) for worker in workers),
    )


def is_empty(connection: redis.Redis, handler: str) -> bool:
    """Tell whether nothing waits for a handler, runs, or is to be tried again. Raises redis.RedisError."""
    queue = queues.delivery_queue(handler)
    key_names = (keys.rq_queue(queue), keys.rq_intermediate(queue), keys.rq_scheduled(queue), keys.rq_started(queue))
    return not connection.exists(*key_names)


def has_fewer_than(connection: redis.Redis, handler: str, limit: int) -> bool:
    """Tell whether fewer than `limit` events stand in a handler's queue, whatever else there is of it.

    Raises redis.RedisError.
    """
    # No job is empty, so as many jobs are as many events at the least.
    ids = connection.lrange(keys.rq_queue(queues.delivery_queue(handler)), 0, limit - 1)
    return len(ids) < limit and audit.count_unsettled(connection, map(as_text, ids)) < limit


def _oldest(connection: Any, job_id: str) -> datetime | None:
    data, settled = connection.hmget(keys.job(job_id), "data", "progress")
    try:
        *_, found = queues.parse_arguments(data or b"")
        done = progress.parse(as_text(settled or progress.NOTHING))
        times = [event.received_at for position, event in enumerate(events.from_arrays(found)) if position not in done]
    except (msgspec.MsgspecError, ValueError):
        return None  # deleted by hand, or a newer release's
    return min(times, default=None)
