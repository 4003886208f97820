"""What was set aside is kept for 30 days and within its bytes (I8): what is older or too much is dropped, oldest first.

Dropped entries are counted as dropped in the step that drops them, so the audit's sum comes out. Every supervisor does
it for every shelf, also for those of handlers that nobody runs any more; doing it at once does no harm.
"""

import logging
import time
from typing import Any, Final

import redis
from msgspec import Struct

from shared import batches, keys
from workers.failures.failure_list import FailureList, all_lists
from workers.runtime import scripts
from workers.runtime.isolation import run_for_each

log = logging.getLogger("callbacks.supervisor")

# How far a shelf grows beyond its bytes is what comes in this time.
_CHECK_SECONDS: Final = 2.0
# A supervisor has leases to renew, so it stops here and goes on at its next tick.
_STEP_SECONDS: Final = 0.5
# Redis does nothing else meanwhile, for some 5 ms.
_FAILURES_PER_CALL: Final = 300
# More than any shelf holds, and the largest integer that Lua's numbers carry exactly.
_NO_LIMIT: Final = 1 << 53


class FailureTrimmer:
    """Trims every shelf over `connection`. Bytes include what Redis adds to each (keys.FAILURE_OVERHEAD_BYTES)."""

    def __init__(self, *, connection: redis.Redis, quarantine_max_bytes: int, dead_letter_max_bytes: int) -> None:
        self._trim = TrimScript(connection)
        self._connection = connection
        self._quarantine_max_bytes = quarantine_max_bytes
        self._dead_letter_max_bytes = dead_letter_max_bytes
        self._check_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether `tick` has something to do."""
        return time.monotonic() >= self._check_at

    def tick(self) -> None:
        """Do what is due, for half a second at most, each shelf by itself.

        Raises redis.RedisError where Redis is unavailable, else an ExceptionGroup.
        """
        if not self.is_due:
            return
        now = time.monotonic()
        self._check_at = now + _CHECK_SECONDS
        lists = list(all_lists(self._connection))

        def trim(failure_list: FailureList) -> None:
            # None has to wait for another that fills up all the time.
            if not self._trim_list(failure_list, deadline=time.monotonic() + _STEP_SECONDS / len(lists)):
                self._check_at = now

        run_for_each(lists, trim)

    def _trim_list(self, failure_list: FailureList, *, deadline: float) -> bool:
        """Trim one shelf; say whether that is all there is to do with it."""
        max_bytes = self._quarantine_max_bytes if failure_list.handler is None else self._dead_letter_max_bytes
        old = over = 0
        more = True
        try:
            while more:
                until_ms = batches.now_ms() - keys.FAILURE_SECONDS * 1000
                trimmed = self._trim.run(failure_list, until_ms=until_ms, max_bytes=max_bytes)
                old, over, more = old + trimmed.old, over + trimmed.over, trimmed.more
                if time.monotonic() >= deadline:
                    break
        finally:
            if old or over:
                log.warning("action=failures_dropped list=%s old=%d over=%d", failure_list.name, old, over)
        return not more


class TrimResult(Struct, frozen=True):
    """How many entries were dropped for their time, how many for the bytes, and whether there may be more to do."""

    old: int
    over: int
    more: bool


class TrimScript:
    """The script that drops a shelf's oldest entries, over one connection."""

    def __init__(self, connection: redis.Redis) -> None:
        self._script = connection.register_script(scripts.load("types", "failures/drop_failure", "failures/retention"))

    def run(self, failure_list: FailureList, *, until_ms: float, max_bytes: int | None = None) -> TrimResult:
        """Drop some hundreds of entries at the most: those up to a time, and the oldest while all hold more bytes.

        Without `max_bytes` they may hold any number of them. Raises redis.RedisError.
        """
        limit = _NO_LIMIT if max_bytes is None else max_bytes
        arguments: list[Any] = [*failure_list.drop_arguments, _FAILURES_PER_CALL, until_ms, limit]
        old, over, more = self._script(keys=failure_list.drop_keys, args=arguments)
        return TrimResult(old, over, bool(more))
