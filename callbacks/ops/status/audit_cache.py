"""Keeps the last result of the audit and its age, for callers that need it often.

The audit reads every waiting job, so it does not run while very many wait, nor for more than a small share of the time.
"""

import threading
import time
from typing import Final

import redis
from msgspec import Struct

from callbacks.ops.status.damaged_values import is_wrong_type, limited_log
from shared import audit

# Reading these takes about a second.
MAX_JOBS: Final = 20_000
# The audit takes at most this share of the caller's time.
_MAX_TIME_SHARE: Final = 0.05


class Balance(Struct, frozen=True, kw_only=True):
    """The result of an audit: whether it balances, how many records and events are lost or counted twice, and its age.

    With `moving`, events moved during the audit, so that a difference means nothing yet.
    """

    balances: bool
    moving: bool
    difference: int
    age_seconds: float


class AuditCache:
    """Runs the audit over `connection` when due. `get` may be called in any thread."""

    def __init__(self, connection: redis.Redis, *, every_seconds: float) -> None:
        self._connection = connection
        self._every_seconds = every_seconds
        self._lock = threading.Lock()
        self._last: Balance | None = None
        self._refreshed_at = float("-inf")
        self._next_at = float("-inf")

    def get(self, jobs: int) -> Balance | None:
        """Return the last conclusive balance, a new one if it is due; None if there is none yet.

        `jobs` is how many there are now. While events move a difference means nothing, and the balance before is
        kept. Raise redis.RedisError.
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

    def _fail(self, error: Exception) -> None:
        limited_log.exception("status_unreadable", error, part="audit")
        self._last = None
        self._next_at = time.monotonic() + self._every_seconds

    def _refresh(self) -> None:
        started_at = time.monotonic()
        try:
            sums = audit.run(self._connection, max_jobs=MAX_JOBS)
        except audit.TooManyJobs:
            # Running jobs have coalesced more jobs than wait in the queues.
            ended_at = time.monotonic()
            self._next_at = ended_at + (ended_at - started_at) / _MAX_TIME_SHARE
            return
        except redis.RedisError as exc:
            if not is_wrong_type(exc):
                raise
            self._fail(exc)
            return
        except Exception as exc:  # noqa: BLE001 # a damaged value may raise anything, and must not end what shows the rest
            self._fail(exc)
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
            # Try again soon.
            self._next_at = ended_at + (ended_at - started_at) / _MAX_TIME_SHARE


def _difference(sums: audit.Audit) -> int:
    return abs(sums.missing) + sum(abs(handler.missing) for handler in sums.handlers)
