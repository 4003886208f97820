"""The state of a handler's queue, in events: how many wait, run and are scheduled, since when, with how many workers.

It is read in a few round trips, not in one transaction, so the numbers fit together only while nothing moves.
"""

from datetime import datetime
from typing import Any

import msgspec
import redis
from msgspec import Struct

from shared import events, keys, queue_jobs, queues
from shared.stored_times import stored_time


class QueueState(Struct, frozen=True, kw_only=True):
    """The state of a handler's queue; all but `jobs` and `workers` count events.

    `waiting` is what a worker may claim now, in `jobs` jobs. `scheduled` failed and wait for their next attempt, the
    first of them at `next_attempt_at`. `oldest_at` is when the first event in the queue was received.
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
        """Events that are neither delivered nor dead letters."""
        return self.waiting + self.running + self.scheduled


def read_state(connection: redis.Redis, handler: str) -> QueueState:
    """Return the state of a handler's queue. Raise redis.RedisError."""
    queue = queues.delivery_queue(handler)
    jobs = queue_jobs.read_jobs(connection, queue, atomic=False)
    with connection.pipeline(transaction=False) as pipe:
        pipe.zcard(keys.dead(handler))
        pipe.smembers(keys.rq_workers(queue))
        dead, workers = pipe.execute()
    running = queue_jobs.with_coalesced(connection, jobs.running)
    # Jobs coalesced into one that waits again are not in the queue's list, and wait with it.
    waiting = queue_jobs.with_coalesced(connection, {*jobs.waiting, *jobs.claimed, *jobs.failed}) - running
    scheduled = set(jobs.scheduled_at) - running - waiting
    return QueueState(
        waiting=queue_jobs.count_unsettled(connection, waiting),
        jobs=len(waiting),
        running=queue_jobs.count_unsettled(connection, running),
        scheduled=queue_jobs.count_unsettled(connection, scheduled),
        dead=dead,
        oldest_at=_oldest(connection, jobs.waiting[0]) if jobs.waiting else None,
        next_attempt_at=stored_time(min(jobs.scheduled_at.values()) * 1000) if jobs.scheduled_at else None,
        workers=sum(connection.exists(worker) for worker in workers),
    )


def is_empty(connection: redis.Redis, handler: str) -> bool:
    """Return whether no event of a handler waits, runs, or is scheduled. Raise redis.RedisError."""
    return queue_jobs.is_empty(connection, queues.delivery_queue(handler))


def has_fewer_than(connection: redis.Redis, handler: str, limit: int) -> bool:
    """Return whether fewer than `limit` events are in a handler's queue, without the running and scheduled ones.

    Raise redis.RedisError.
    """
    # Every job holds an event, so `limit` jobs are at least as many events.
    ids = queue_jobs.list_waiting(connection, queues.delivery_queue(handler), 0, limit - 1)
    return len(ids) < limit and queue_jobs.count_unsettled(connection, ids) < limit


def _oldest(connection: Any, job_id: str) -> datetime | None:
    try:
        left = events.from_arrays([event for _, event in queue_jobs.read_delivery_job(connection, job_id).events])
    except (msgspec.MsgspecError, ValueError):
        return None  # written by a newer release
    return min((event.received_at for event in left), default=None)
