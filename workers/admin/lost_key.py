"""Discard what is sealed with a key that is lost: nobody can read it any more (`callbacks lost-key`).

Jobs of callbacks and of events, and failures, each in one step with its counters: all of it counts as dropped, and the
audit balances. A job that runs at that moment, or holds others, stays: a later call finds it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

import redis
from msgspec import Struct

from shared import keys
from workers.admin import needed_keys, purge
from workers.admin.needed_keys import SealedFailure, SealedJob
from workers.failures.store import FailureStore
from workers.runtime import scripts

_JOBS_PER_STEP: Final = 200


class SealedItems(Struct, frozen=True):
    """What is sealed with the key now."""

    jobs: Sequence[SealedJob]
    failures: Sequence[SealedFailure]

    def count(self) -> Counter[str]:
        """Return how many jobs and failures there are, by their queue or list."""
        return Counter([job.queue for job in self.jobs] + [one.failure_list.name for one in self.failures])


class LostKey:
    """The key with this id. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis, key_id: str) -> None:
        self._connection: Any = connection
        self._key_id = key_id
        self._store = FailureStore(connection)
        self._script = connection.register_script(scripts.load(*purge.FRAGMENTS))

    def find(self) -> SealedItems:
        """Return what is sealed with it."""
        jobs = needed_keys.iterate_jobs(self._connection)
        failures = needed_keys.iterate_failures(self._connection)
        return SealedItems(
            [job for job in jobs if self._key_id in job.key_ids],
            [failure for failure in failures if self._key_id in failure.key_ids],
        )

    def discard(self, sealed: SealedItems) -> Iterator[int]:
        """Discard it. Works while it is iterated; yields how many jobs and failures each step discarded."""
        for queue, jobs in groupby(sealed.jobs, lambda job: job.queue):
            ids = [job.job_id for job in jobs]
            for first in range(0, len(ids), _JOBS_PER_STEP):
                yield self._discard_jobs(queue, ids[first : first + _JOBS_PER_STEP])
        for failure_list, failures in groupby(sealed.failures, lambda failure: failure.failure_list):
            for step in self._store.drop(failure_list, [failure.failure_id for failure in failures]):
                yield step.done

    def _discard_jobs(self, queue: str, ids: Iterable[str]) -> int:
        arguments: list[str | int] = [keys.job(""), keys.COALESCED_PREFIX]
        for job_id in ids:
            progress, changes = purge.count_unread(self._connection, queue, job_id)
            # One part: a job that coalesced others is not as the script expects it, and stays.
            arguments += (job_id, 1, job_id, progress)
            arguments += (len(changes), *(word for change in changes.items() for word in change))
        key_names = [keys.rq_queue(queue), keys.rq_scheduled(queue), keys.COUNTS]
        return sum(self._script(keys=key_names, args=arguments))
