"""The audit for those who look again and again: its last result and its age, taken anew as seldom as it has to be.

It reads every waiting job, so it is not taken while very many wait, nor for more than a small share of the time.
"""

import threading
import time
from typing import Final

import redis
from msgspec import Struct

from shared import audit

# About a second's reading.
MAX_JOBS: Final = 20_000
# So often as to take at most this share of the time of whoever looks.
_MAX_TIME_SHARE: Final = 0.05


class Balance(Struct, frozen=True, kw_only=True):
    """What the audit found: whether all adds up, how many records and events are nowhere or twice, and its age.

    With `moving`, things moved while they were added up, so that a difference means nothing yet.
    """

    balances: bool
    moving: bool
    difference: int
    age_seconds: float


class AuditCache:
    """Takes the audit over `connection` now and then. `look` may be called in any thread."""

    def __init__(self, connection: redis.Redis, *, every_seconds: float) -> None:
        self._connection = connection
        self._every_seconds = every_seconds
        self._lock = threading.Lock()
        self._last: Balance | None = None
        self._refreshed_at = float("-inf")
        self._next_at = float("-inf")

    def get(self, jobs: int) -> Balance | None:
        """Give the last balance that tells something, a new one if it is time; None if there is none yet.

        `jobs` is how many there are now. While things move, what does not add up means nothing, and the balance before
        it stays. Raises redis.RedisError.
        """
        with self._lock:
            if time.monotonic() >= self._next_at and jobs <= MAX_JOBS:
                self._refresh()
            if self._last is None:
                return None
            return Balance(
                balances=self._last.balances,
                moving=self._last.moving,
                difference=self._last.difference,
                age_seconds=time.monotonic() - self._refreshed_at,
            )

    def _refresh(self) -> None:
        started_at = time.monotonic()
        try:
            sums = audit.run(self._connection, max_jobs=MAX_JOBS)
        except audit.TooManyJobs:
            # Running jobs took more along than stand in the queues.
            ended_at = time.monotonic()
            self._next_at = ended_at + (ended_at - started_at) / _MAX_TIME_SHARE
            return
        ended_at = time.monotonic()
        is_conclusive = sums.balances or not sums.moving
        if is_conclusive or self._last is None or self._last.moving:
            self._last = Balance(
                balances=sums.balances,
                moving=sums.moving and not sums.balances,
                difference=_difference(sums),
                age_seconds=0,
            )
            self._refreshed_at = ended_at
        if is_conclusive:
            self._next_at = ended_at + max(self._every_seconds, (ended_at - started_at) / _MAX_TIME_SHARE)
        else:
            # It is worth another try before long.
            self._next_at = ended_at + (ended_at - started_at) / _MAX_TIME_SHARE


def _difference(sums: audit.Audit) -> int:
    return abs(sums.missing) + sum(abs(handler.missing) for handler in sums.handlers)
