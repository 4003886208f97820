"""Which keys are needed to open what waits in Redis: of each job and of each failure, by the ids of the keys.

Nothing is opened, so it says the same whatever keys this process has. It changes nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

import redis
from msgspec import Struct
from rq.utils import as_text

from shared import failure_fields, keys, queue_jobs, queues, sealed_data
from shared.counted import counted
from workers.failures.failure_list import FailureList, all_lists
from workers.failures.store import FailureStore

_JOBS_PER_READ: Final = 200
_READ_BYTES: Final = 4 << 20


class SealedJob(Struct, frozen=True):
    """A job of a queue, waiting, scheduled or running, and the ids of the keys that it needs."""

    queue: str
    job_id: str
    key_ids: frozenset[str]


class SealedFailure(Struct, frozen=True):
    """A failure, and the ids of the keys that it needs."""

    failure_list: FailureList
    failure_id: str
    key_ids: frozenset[str]


def count(connection: redis.Redis, *, max_of_each: int) -> Mapping[str, Counter[str]]:
    """Return for each key how many jobs and failures need it, by their queue or list. Raise redis.RedisError.

    Of each list the oldest are read, up to this number: what an older key sealed is among them.
    """
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for job in iterate_jobs(connection, max_of_each=max_of_each):
        for key_id in job.key_ids:
            found[key_id][job.queue] += 1
    for failure in iterate_failures(connection, max_of_each=max_of_each):
        for key_id in failure.key_ids:
            found[key_id][failure.failure_list.name] += 1
    return found


def describe(counts: Mapping[str, int]) -> str:
    """Return counts by queue or list in words: "1 failure of dead:shop, 2 jobs of expand"."""
    return ", ".join(f"{counted(number, _unit(name))} of {name}" for name, number in sorted(counts.items()))


def _unit(name: str) -> str:
    return "job" if name == queues.EXPAND or queues.handler_of(name) is not None else "failure"


def iterate_jobs(connection: redis.Redis, *, max_of_each: int = 0) -> Iterator[SealedJob]:
    """Yield the sealed jobs of all queues. Raise redis.RedisError.

    `max_of_each`: how many of each list are read, 0 for all.
    """
    names = keys.handler_names(map(as_text, connection.hkeys(keys.COUNTS)))
    for queue in (queues.EXPAND, *map(queues.delivery_queue, names)):
        jobs = queue_jobs.read_jobs(connection, queue, last_index=max_of_each - 1)
        held = queue_jobs.with_coalesced(connection, [*jobs.claimed, *jobs.running])
        ids = [*jobs.waiting, *jobs.scheduled_at, *held]
        for job_id, stored in queue_jobs.iterate_stored(
            connection, ids, max_jobs=_JOBS_PER_READ, max_bytes=_READ_BYTES
        ):
            texts = (queues.decompress(stored.data or b""), *stored.present)
            needed = frozenset().union(*map(sealed_data.key_ids, texts))
            if needed:
                yield SealedJob(queue, job_id, needed)


def iterate_failures(connection: redis.Redis, *, max_of_each: int = 0) -> Iterator[SealedFailure]:
    """Yield the sealed failures of all lists. Raise redis.RedisError. `max_of_each` is as for jobs."""
    client: Any = connection
    store = FailureStore(connection)
    names = [*failure_fields.SEALED, failure_fields.PLAIN]
    for failure_list in all_lists(connection):
        ids = list(map(as_text, client.zrange(failure_list.index, 0, max_of_each - 1)))
        for batch in store.read_batches(failure_list, ids):
            with client.pipeline(transaction=False) as pipe:
                for failure_id in batch:
                    pipe.hmget(keys.failure(failure_list.index, failure_id), names)
                replies = pipe.execute()
            for failure_id, (*values, plain) in zip(batch, replies, strict=True):
                needed = failure_fields.key_ids(failure_fields.SEALED, values, plain)
                if needed:
                    yield SealedFailure(failure_list, failure_id, needed)
