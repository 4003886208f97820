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
MOST_JOBS: Final = 20_000
# So often as to take at most this share of the time of whoever looks.
_SHARE_OF_TIME: Final = 0.05


class Balance(Struct, frozen=True, kw_only=True):
    """What the audit found: whether all adds up, how many records and events are nowhere or twice, and its age.

    With `moving`, things moved while they were added up, so that a difference means nothing yet.
    """

    balances: bool
    moving: bool
    difference: int
    age_seconds: float


class Auditing:
    """Takes the audit over `connection` now and then. `look` may be called in any thread."""

    def __init__(self, connection: redis.Redis, *, every_seconds: float) -> None:
        self._connection = connection
        self._every_seconds = every_seconds
        self._one_at_a_time = threading.Lock()
        self._last: Balance | None = None
        self._taken_at = float("-inf")
        self._again_at = float("-inf")

    def look(self, jobs: int) -> Balance | None:
        """Give the last balance that tells something, a new one if it is time; None if there is none yet.

        `jobs` is how many there are now. While things move, what does not add up means nothing, and the balance before
        it stays. Raises redis.RedisError.
        """
        with self._one_at_a_time:
            if time.monotonic() >= self._again_at and jobs <= MOST_JOBS:
                self._take()
            if self._last is None:
                return None
            return Balance(
                balances=self._last.balances,
                moving=self._last.moving,
                difference=self._last.difference,
                age_seconds=time.monotonic() - self._taken_at,
            )

    def _take(self) -> None:
        began_at = time.monotonic()
        try:
            sums = audit.take(self._connection, most_jobs=MOST_JOBS)
        except audit.TooManyJobs:
            # Running jobs took more along than stand in the queues.
            ended_at = time.monotonic()
            self._again_at = ended_at + (ended_at - began_at) / _SHARE_OF_TIME
            return
        ended_at = time.monotonic()
        tells = sums.balances or not sums.moving
        if tells or self._last is None or self._last.moving:
            self._last = Balance(
                balances=sums.balances, moving=sums.moving and not sums.balances, difference=_apart(sums), age_seconds=0
            )
            self._taken_at = ended_at
        if tells:
            self._again_at = ended_at + max(self._every_seconds, (ended_at - began_at) / _SHARE_OF_TIME)
        else:
            # It is worth another try before long.
            self._again_at = ended_at + (ended_at - began_at) / _SHARE_OF_TIME


def _apart(sums: audit.Audit) -> int:
    return abs(sums.missing) + sum(abs(handler.missing) for handler in sums.handlers)
