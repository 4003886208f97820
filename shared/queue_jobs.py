"""The jobs of a queue, read from Redis: which there are, in which of RQ's keys, and what is left of each.

The only module that reads RQ's five kinds of key (the queue's list, its intermediate list, and the registries of
started, scheduled and failed jobs) and the lists of coalesced jobs. It changes nothing. Every function raises
redis.RedisError.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Self

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys, progress, queues

JOBS_PER_READ: Final = 1000
# How many replies `request_sizes` adds to a pipeline.
SIZE_REPLIES: Final = 4


class QueueJobs(Struct, frozen=True, kw_only=True):
    """The ids of a queue's jobs, by the key in which they are, without the coalesced ones.

    `waiting` is in the order of the queue. `claimed` were popped by a worker that has not registered the run yet.
    `scheduled_at` has the time of each scheduled job, in seconds since 1970, earliest first.
    """

    waiting: tuple[str, ...]
    claimed: tuple[str, ...]
    running: tuple[str, ...]
    scheduled_at: dict[str, float]
    failed: tuple[str, ...]

    @property
    def all_ids(self) -> set[str]:
        """Every job, whatever its state."""
        return {*self.waiting, *self.claimed, *self.running, *self.scheduled_at, *self.failed}


class QueueSizes(Struct, frozen=True):
    """How many jobs a queue has, by state; coalesced jobs are not counted."""

    waiting: int
    claimed: int
    running: int
    scheduled: int

    @classmethod
    def from_replies(cls, replies: Sequence[int]) -> Self:
        """Read the replies to `request_sizes`."""
        return cls(*replies[:SIZE_REPLIES])


class StoredJob(Struct, frozen=True):
    """A job's fields as they are stored: its data and portions, and others that were asked for.

    `data` is None for a job that was deleted by hand; `portions` is None if one of them is missing, and `present` has
    those that are there.
    """

    data: bytes | None
    portions: Sequence[bytes] | None
    present: Sequence[bytes]
    values: Sequence[bytes | None]

    @property
    def size_bytes(self) -> int:
        """How large what it holds is."""
        return len(self.data or b"") + sum(map(len, self.present))

    def arguments(self) -> list[Any]:
        """Return its arguments. Raise what `queues.parse_arguments` does."""
        return queues.parse_arguments(self.data or b"", self.portions)


class DeliveryJob(Struct, frozen=True):
    """What is left of a delivery job: its events that are not settled, each with its position, as JSON arrays.

    `progress` and `finished` are the texts in its hash. All is empty for a job that was deleted by hand.
    """

    progress: str
    finished: str
    events: tuple[tuple[int, Any], ...]


def request_sizes(pipe: Any, queue: str) -> None:
    """Add the commands to a pipeline that QueueSizes is read from."""
    pipe.llen(keys.rq_queue(queue))
    pipe.llen(keys.rq_intermediate(queue))
    pipe.zcard(keys.rq_started(queue))
    pipe.zcard(keys.rq_scheduled(queue))


def read_sizes(connection: redis.Redis, queue: str) -> QueueSizes:
    """Return how many jobs a queue has."""
    with connection.pipeline(transaction=False) as pipe:
        request_sizes(pipe, queue)
        return QueueSizes.from_replies(pipe.execute())


def read_jobs(
    connection: redis.Redis, queue: str, *, last_index: int = -1, newest: bool = False, atomic: bool = True
) -> QueueJobs:
    """Return the jobs of a queue, of each key those up to `last_index`; with `newest`, the last of the queue's list.

    With `atomic` in one transaction, so that a job that moves meanwhile is neither missed nor found twice. While Redis
    is full it accepts no transaction, not even one that only reads; then a job that moves may be missed.
    """
    try:
        waiting, claimed, scheduled, failed, started = _read(
            connection, queue, last_index=last_index, newest=newest, atomic=atomic
        )
    except redis.OutOfMemoryError:
        waiting, claimed, scheduled, failed, started = _read(
            connection, queue, last_index=last_index, newest=newest, atomic=False
        )
    return QueueJobs(
        waiting=tuple(map(as_text, waiting)),
        claimed=tuple(map(as_text, claimed)),
        running=tuple(as_text(member).partition(":")[0] for member in started),
        scheduled_at={as_text(job_id): seconds for job_id, seconds in scheduled},
        failed=tuple(map(as_text, failed)),
    )


def _read(connection: redis.Redis, queue: str, *, last_index: int, newest: bool, atomic: bool) -> list[Any]:
    with connection.pipeline(transaction=atomic) as pipe:
        if newest:
            pipe.lrange(keys.rq_queue(queue), -last_index - 1, -1)
        else:
            pipe.lrange(keys.rq_queue(queue), 0, last_index)
        pipe.lrange(keys.rq_intermediate(queue), 0, last_index)
        pipe.zrange(keys.rq_scheduled(queue), 0, last_index, withscores=True)
        pipe.zrange(keys.rq_failed(queue), 0, last_index)
        pipe.zrange(keys.rq_started(queue), 0, last_index)
        found: list[Any] = pipe.execute()
    return found


def list_waiting(connection: Any, queue: str, first: int, last: int) -> list[str]:
    """Return the ids of the jobs at these positions of the queue's list, both included."""
    return list(map(as_text, connection.lrange(keys.rq_queue(queue), first, last)))


def list_scheduled(connection: Any, queue: str, first: int, last: int) -> list[str]:
    """Return the ids of the scheduled jobs at these positions, earliest first, both included."""
    return list(map(as_text, connection.zrange(keys.rq_scheduled(queue), first, last)))


def list_scheduled_after(
    connection: Any, queue: str, after: tuple[float, str], *, limit: int
) -> list[tuple[float, str]]:
    """Return the first `limit` scheduled jobs after one, each with when it is due, in seconds since 1970."""
    found: list[tuple[float, str]] = []
    first = 0
    while len(found) < limit:
        # Jobs that are due at the same time are sorted by their ids.
        read = connection.zrangebyscore(
            keys.rq_scheduled(queue), repr(after[0]), "+inf", start=first, num=limit, withscores=True
        )
        found += (job for job in ((due, as_text(job_id)) for job_id, due in read) if job > after)
        if len(read) < limit:
            break
        first += limit
    return found[:limit]


def list_claimed(connection: Any, queue: str) -> list[str]:
    """Return the ids of the jobs that a worker popped and has not started."""
    return list(map(as_text, connection.lrange(keys.rq_intermediate(queue), 0, -1)))


def list_expired_executions(connection: Any, queue: str, *, seconds: int) -> list[bytes]:
    """Return the members of the registry of started jobs whose lease has ended, if it is `seconds` by Redis's clock."""
    found: list[bytes] = connection.zrangebyscore(keys.rq_started(queue), "-inf", seconds)
    return found


def is_empty(connection: redis.Redis, queue: str) -> bool:
    """Return whether no job of a queue waits, runs, or is scheduled."""
    key_names = (keys.rq_queue(queue), keys.rq_intermediate(queue), keys.rq_scheduled(queue), keys.rq_started(queue))
    return not connection.exists(*key_names)


def read_coalesced(connection: redis.Redis, job_ids: Sequence[str], *, last_index: int = -1) -> list[list[str]]:
    """Return, for each job, the jobs coalesced into it, up to `last_index` of its list."""
    found: list[list[str]] = []
    for first in range(0, len(job_ids), JOBS_PER_READ):
        with connection.pipeline(transaction=False) as pipe:
            for job_id in job_ids[first : first + JOBS_PER_READ]:
                pipe.lrange(keys.coalesced(job_id), 0, last_index)
            found += (list(map(as_text, jobs)) for jobs in pipe.execute())
    return found


def with_coalesced(connection: redis.Redis, job_ids: Iterable[str], *, last_index: int = -1) -> set[str]:
    """Return these jobs and those coalesced into them, of each up to `last_index` of its list."""
    ids = sorted(job_ids)
    return set(ids).union(*read_coalesced(connection, ids, last_index=last_index))


def count_unsettled(connection: redis.Redis, job_ids: Iterable[str]) -> int:
    """Count what these jobs still hold: records of callbacks to be expanded, or events to be delivered."""
    ids = sorted(job_ids)
    total = 0
    for first in range(0, len(ids), JOBS_PER_READ):
        with connection.pipeline(transaction=False) as pipe:
            for job_id in ids[first : first + JOBS_PER_READ]:
                pipe.hmget(keys.job(job_id), "items", "progress")
            total += sum(
                int(items or 0) - progress.count(as_text(settled or progress.NOTHING))
                for items, settled in pipe.execute()
            )
    return total


def read_delivery_job(connection: Any, job_id: str) -> DeliveryJob:
    """Return what is left of a delivery job. Raise msgspec.MsgspecError or ValueError if a newer release wrote it."""
    (stored,) = read_stored(connection, [job_id], "progress", "finished")
    settled, finished = stored.values
    settled_text, finished_text = as_text(settled or progress.NOTHING), as_text(finished or b"")
    if stored.data is None:
        return DeliveryJob(settled_text, finished_text, ())
    *_, events = stored.arguments()
    done = progress.parse(settled_text)
    left = tuple(
        (position, msgspec.json.decode(event)) for position, event in enumerate(events) if position not in done
    )
    return DeliveryJob(settled_text, finished_text, left)


def read_stored(connection: Any, job_ids: Sequence[str], *fields: str) -> list[StoredJob]:
    """Return these jobs, each with the values of `fields`."""
    found = _read_stored(connection, job_ids, fields)
    # A job that was settled between the two reads has no portions any more, and is read again.
    again = [number for number, job in enumerate(found) if job.portions is None]
    for number, job in zip(again, _read_stored(connection, [job_ids[one] for one in again], fields), strict=True):
        found[number] = job
    return found


def iterate_stored(
    connection: Any, job_ids: Sequence[str], *fields: str, max_jobs: int, max_bytes: int
) -> Iterator[tuple[str, StoredJob]]:
    """Yield each job's id and the job as `read_stored` has it.

    At once at most `max_jobs` are read, and no more than hold `max_bytes` of data, but for one that is larger alone.
    """
    ids = job_ids
    while ids:
        some = limit_by_bytes(connection, ids[:max_jobs], max_bytes) or ids[:1]
        ids = ids[len(some) :]
        yield from zip(some, read_stored(connection, some, *fields), strict=True)


def _read_stored(connection: Any, job_ids: Sequence[str], fields: Sequence[str]) -> list[StoredJob]:
    with connection.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hmget(keys.job(job_id), "data", "portions", *fields)
        replies = pipe.execute()
    names = {name for _, portions, *_ in replies for name in (portions or b"").split()}
    texts = _read_portions(connection, sorted(names))
    jobs = []
    for data, portions, *values in replies:
        found = [texts[name] for name in (portions or b"").split()]
        present = [text for text in found if text is not None]
        jobs.append(StoredJob(data, present if len(present) == len(found) else None, present, values))
    return jobs


def _read_portions(connection: Any, names: Sequence[bytes]) -> dict[bytes, bytes | None]:
    return dict(zip(names, connection.hmget(keys.PORTIONS, names), strict=True)) if names else {}


def limit_by_bytes(connection: redis.Redis, job_ids: Sequence[str], max_bytes: int) -> list[str]:
    """Return the first of these jobs, as many as hold no more than `max_bytes` of data together; may be none."""
    with connection.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hstrlen(keys.job(job_id), "data")
            pipe.hget(keys.job(job_id), "portions")
        replies = pipe.execute()
    portions = [(names or b"").split() for names in replies[1::2]]
    bytes_of = _read_portion_sizes(connection, sorted({name for names in portions for name in names}))
    sizes = [size + sum(map(bytes_of.__getitem__, names)) for size, names in zip(replies[::2], portions, strict=True)]
    total_bytes = 0
    for number, size in enumerate(sizes):
        total_bytes += size
        if total_bytes > max_bytes:
            return list(job_ids[:number])
    return list(job_ids)


def _read_portion_sizes(connection: redis.Redis, names: Sequence[bytes]) -> dict[bytes, int]:
    with connection.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hstrlen(keys.PORTIONS, as_text(name))
        return dict(zip(names, pipe.execute(), strict=True))
