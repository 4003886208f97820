"""Removes old entries of the action log, as a task of maintenance."""

import time
from typing import Any, Final

import redis
from rq.utils import as_text

from shared import batches, keys

_CHECK_SECONDS: Final = 60.0
_ACTIONS_PER_TICK: Final = 500


class ActionTrimmer:
    """Removes what is older than `days`; several supervisors may do so at the same time."""

    def __init__(self, *, connection: redis.Redis, days: int) -> None:
        self._connection: Any = connection
        self._seconds = days * keys.DAY_SECONDS
        self._check_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether `tick` has something to do."""
        return time.monotonic() >= self._check_at

    def tick(self) -> None:
        """Remove the oldest entries that are too old. Raise redis.RedisError."""
        until_ms = batches.now_ms() - self._seconds * 1000
        old = self._connection.zrange(keys.ACTIONS, "-inf", until_ms, byscore=True, offset=0, num=_ACTIONS_PER_TICK)
        if old:
            with self._connection.pipeline() as pipe:
                pipe.delete(*(keys.action(as_text(one)) for one in old))
                pipe.zrem(keys.ACTIONS, *old)
                pipe.execute()
        if len(old) < _ACTIONS_PER_TICK:
            self._check_at = time.monotonic() + _CHECK_SECONDS
