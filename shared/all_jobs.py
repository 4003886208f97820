"""All jobs of a queue, at rest or held by a run, with what they hold. A job that moves meanwhile is not missed.

A run that ends while others are read deletes its job and leaves new ones: retries, or what it had coalesced. So the
queue is listed again until that brings nothing new. It changes nothing.
"""

from collections.abc import Iterator
from typing import Final

import redis
from msgspec import Struct

from shared import queue_jobs
from shared.queue_jobs import StoredJob

_JOBS_PER_READ: Final = 50
_READ_BYTES: Final = 4 << 20
# While callbacks arrive all the time, each listing has new jobs. What moved during the first is in the second.
_MAX_LISTINGS: Final = 5


class ListedJob(Struct, frozen=True):
    """A job as it was read; `holder` is None while a run holds it.

    Otherwise the holder is the job itself, or the waiting job whose earlier run coalesced it.
    """

    job_id: str
    holder: str | None
    stored: StoredJob


def iterate(connection: redis.Redis, queue: str, *fields: str, known: set[str] | None = None) -> Iterator[ListedJob]:
    """Yield each job of a queue once, with the values of `fields`, without those that are gone.

    Those in `known`, which their ids are added to, are left out. Raise redis.RedisError.
    """
    known = set() if known is None else known
    for _ in range(_MAX_LISTINGS):
        holders = _list_new(connection, queue, known)
        if not holders:
            return
        known.update(holders)
        for job_id, stored in queue_jobs.iterate_stored(
            connection, list(holders), *fields, max_jobs=_JOBS_PER_READ, max_bytes=_READ_BYTES
        ):
            if stored.data is not None:
                yield ListedJob(job_id, holders[job_id], stored)


def _list_new(connection: redis.Redis, queue: str, known: set[str]) -> dict[str, str | None]:
    """Return the holder of each job that is not known yet."""
    jobs = queue_jobs.read_jobs(connection, queue)
    holders: dict[str, str | None] = {}
    at_rest = [job_id for job_id in (*jobs.waiting, *jobs.scheduled_at, *jobs.failed) if job_id not in known]
    for holder, others in zip(at_rest, queue_jobs.read_coalesced(connection, at_rest), strict=True):
        holders |= dict.fromkeys((holder, *others), holder)
    held = queue_jobs.with_coalesced(connection, [*jobs.claimed, *jobs.running])
    holders |= dict.fromkeys(held)
    return {job_id: holder for job_id, holder in holders.items() if job_id not in known}
