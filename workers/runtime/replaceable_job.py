"""What a worker has to know of a job whose run failed by an error of this service: what becomes of it."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import redis

from workers.runtime.completion_journal import Completions
from workers.runtime.settlement import Replacement


class ReplaceableJob(Protocol):
    """A job whose run has just failed."""

    @property
    def failures(self) -> int:
        """How many of its runs failed since it last made progress, this one included."""

    def is_waiting(self, error: BaseException) -> bool:
        """Return whether it only waits, for a newer release or a key: then this run does not count as failed."""

    def replacement(self, error: BaseException, completions: Completions) -> Replacement | None:
        """Return what takes its place, or None: it is retried as it is. `completions`: what its handler finished."""


# Reads a job whose run has just failed, by its queue and its id. Raises redis.RedisError.
ReadFailedJob: TypeAlias = Callable[[redis.Redis, str, str], ReplaceableJob]
