"""Portions, the JSON of events that several handlers want, are deleted with the last job that needs them.

Jobs that somebody deletes by hand, as `rq empty` does, leave theirs: a task of maintenance finds and deletes them.
"""

import time
from typing import Any, Final

import redis

from shared import keys
from shared.structured_log import get_logger
from workers.runtime import scripts

log = get_logger("callbacks.supervisor")

_CHECK_SECONDS: Final = 5.0
_BUSY_SECONDS: Final = 0.1
# Maintenance has other tasks, such as the renewal of leases.
_TICK_SECONDS: Final = 0.2
# Of 100 events each. With 12 handlers Redis does nothing else for some 0.3 ms, with 100 for 2 ms.
_PORTIONS_PER_STEP: Final = 20


class PortionReaper:
    """Deletes, over `connection`, the portions that no job needs: a page of all at each tick."""

    def __init__(self, connection: redis.Redis) -> None:
        # Any, as redis-py types replies as bytes or str, and here they are always bytes.
        self._connection: Any = connection
        self._script = connection.register_script(scripts.load("allow_oom", "portions", "reap_portions"))
        self._cursor = 0
        self._check_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next page."""
        return time.monotonic() >= self._check_at

    def tick(self) -> None:
        """Reap the next page; after the last, those without a count in cb:events:jobs. Raise redis.RedisError."""
        end = time.monotonic() + _TICK_SECONDS
        self._cursor, page = self._connection.hscan(keys.PORTION_JOBS, self._cursor, count=_PORTIONS_PER_STEP)
        deleted = self._reap(list(page), end)
        if self._cursor == 0 and self._connection.hlen(keys.PORTIONS) > self._connection.hlen(keys.PORTION_JOBS):
            uncounted = set(self._connection.hkeys(keys.PORTIONS)) - set(self._connection.hkeys(keys.PORTION_JOBS))
            deleted += self._reap(list(uncounted), end)
        if deleted:
            log.warning("portions_reaped", portions=deleted)
        # Where one was left there may be many more, which fill Redis's memory.
        self._check_at = time.monotonic() + (_BUSY_SECONDS if deleted else _CHECK_SECONDS)

    def _reap(self, names: list[bytes], end: float) -> int:
        # Redis may return more than one asks for: all, if they are few. Those left at the `end` are found again.
        deleted = 0
        for first in range(0, len(names), _PORTIONS_PER_STEP):
            deleted += self._script(args=[keys.job(""), *names[first : first + _PORTIONS_PER_STEP]])
            if time.monotonic() >= end:
                break
        return deleted
