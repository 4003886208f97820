"""Which runs of `callbacks forget` have begun and not ended (`keys.FORGETTING`).

A run may be interrupted between erasing and overwriting what it erased, so a later one overwrites that too. Each has a
mark of its own, renewed before each store: a run that ends removes its own, and those of runs that stood still since it
began and for an hour at least, as one store may take longer than another run takes for all.
"""

import secrets
import time
from typing import Any, Final

import redis

from shared import keys

_ID_BYTES: Final = 8
_KEPT_SECONDS: Final = 30 * keys.DAY_SECONDS
_OVER_NANOSECONDS: Final = 3600 * 10**9


class RunMarks:
    """The marks, as one run sees them. Each method raises redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any = connection
        self._run = secrets.token_hex(_ID_BYTES)
        self._earlier: dict[bytes, bytes] = {}

    def begin(self) -> bool:
        """Mark this run as begun; return whether an earlier one has not ended."""
        self._earlier = self._connection.hgetall(keys.FORGETTING)
        self.renew()
        return bool(self._earlier)

    def renew(self) -> None:
        """Mark this run as under way."""
        with self._connection.pipeline(transaction=False) as pipe:
            pipe.hset(keys.FORGETTING, self._run, time.time_ns())
            pipe.expire(keys.FORGETTING, _KEPT_SECONDS)
            pipe.execute()

    def end(self) -> None:
        """Remove the marks of this run, which erased and overwrote everything, and of those that stood still."""
        now: dict[bytes, bytes] = self._connection.hgetall(keys.FORGETTING)
        before = time.time_ns() - _OVER_NANOSECONDS
        over = [run for run, mark in self._earlier.items() if now.get(run) == mark and int(mark) < before]
        self._connection.hdel(keys.FORGETTING, self._run, *over)
