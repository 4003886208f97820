"""Retention: failures are kept for some days and within a limit of bytes (I8); beyond that the oldest are dropped.

Each is counted as dropped in the step that drops it, so the audit balances. Every supervisor trims every list, also
those of handlers that no longer run; several supervisors may do so at the same time.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final

import redis
from msgspec import Struct

from shared import batches, keys, retention
from shared.metrics import SEPARATOR, TRIMMED
from shared.structured_log import get_logger
from workers.failures.failure_list import FailureList, all_lists
from workers.runtime import scripts
from workers.runtime.isolation import run_for_each

log = get_logger("callbacks.supervisor")

# A list may exceed its limit by what is added in this time.
_CHECK_SECONDS: Final = 2.0
# A supervisor has leases to renew, so it stops after this time and continues at its next tick.
_STEP_SECONDS: Final = 0.5
# Redis does nothing else meanwhile, for about 5 ms.
_FAILURES_PER_CALL: Final = 300
# More than any list holds, and the largest integer that Lua's numbers represent exactly.
_NO_LIMIT: Final = 1 << 53


class FailureTrimmer:
    """Trims every list over `connection`. Bytes include Redis's own for each failure (keys.FAILURE_OVERHEAD_BYTES)."""

    def __init__(
        self,
        *,
        connection: redis.Redis,
        quarantine_max_bytes: int,
        dead_letter_max_bytes: int,
        days: int = retention.FAILURE_DAYS,
    ) -> None:
        self._trim = TrimScript(connection)
        self._connection = connection
        self._quarantine_max_bytes = quarantine_max_bytes
        self._dead_letter_max_bytes = dead_letter_max_bytes
        self._seconds = days * keys.DAY_SECONDS
        self._check_at = 0.0
        # Those that this round has not trimmed yet.
        self._lists: list[FailureList] = []

    @property
    def is_due(self) -> bool:
        """Whether `tick` has something to do."""
        return time.monotonic() >= self._check_at

    def tick(self) -> None:
        """Trim if it is due, for at most half a second; an error in one list does not stop the others.

        Raise redis.RedisError if Redis is unavailable, otherwise an ExceptionGroup.
        """
        if not self.is_due:
            return
        now = time.monotonic()
        self._check_at = now + _CHECK_SECONDS
        if not self._lists:
            self._lists = list(all_lists(self._connection))
        share_seconds = _STEP_SECONDS / max(len(self._lists), 1)

        def trim(failure_list: FailureList) -> None:
            # Each list has its share of the time, so that one that fills up all the time does not delay the others.
            if not self._trim_list(failure_list, deadline=time.monotonic() + share_seconds):
                self._check_at = now

        run_for_each(self._take_lists(until=now + _STEP_SECONDS), trim)
        if self._lists:
            self._check_at = now

    def _take_lists(self, *, until: float) -> Iterator[FailureList]:
        """Yield what is left of this round; stop at that time, as Redis may be slow, but not before the first."""
        while self._lists:
            yield self._lists.pop(0)
            if time.monotonic() >= until:
                return

    def _trim_list(self, failure_list: FailureList, *, deadline: float) -> bool:
        """Trim one list; return whether nothing is left to trim."""
        max_bytes = self._quarantine_max_bytes if failure_list.handler is None else self._dead_letter_max_bytes
        old = over = 0
        more = True
        try:
            while more:
                until_ms = batches.now_ms() - self._seconds * 1000
                trimmed = self._trim.run(failure_list, until_ms=until_ms, max_bytes=max_bytes)
                old, over, more = old + trimmed.old, over + trimmed.over, trimmed.more
                if time.monotonic() >= deadline:
                    break
        finally:
            if old or over:
                log.warning("failures_dropped", list=failure_list.name, old=old, over=over)
                self._count(failure_list, {"age": old, "room": over})
        return not more

    def _count(self, failure_list: FailureList, dropped: dict[str, int]) -> None:
        """Add to the metrics what was dropped, which the counters of the audit do not tell from what operators drop."""
        # A Redis that is full takes no count, and trimming is what makes room.
        with contextlib.suppress(redis.OutOfMemoryError), self._connection.pipeline(transaction=False) as pipe:
            for why, number in dropped.items():
                pipe.hincrby(keys.METRICS, SEPARATOR.join((TRIMMED, failure_list.name, why)), number)
            pipe.execute()


class TrimResult(Struct, frozen=True):
    """How many failures were dropped for their age and for the limit of bytes, and whether more may be to do."""

    old: int
    over: int
    more: bool


class TrimScript:
    """The script that drops the oldest failures of a list, over one connection."""

    def __init__(self, connection: redis.Redis) -> None:
        self._script = connection.register_script(scripts.load("types", "failures/drop_failure", "failures/retention"))

    def run(self, failure_list: FailureList, *, until_ms: float, max_bytes: int | None = None) -> TrimResult:
        """Drop at most a few hundred failures: those up to `until_ms`, and the oldest while all exceed `max_bytes`.

        Without `max_bytes` only the time counts. Raise redis.RedisError.
        """
        limit = _NO_LIMIT if max_bytes is None else max_bytes
        arguments: list[Any] = [*failure_list.drop_arguments, _FAILURES_PER_CALL, until_ms, limit]
        old, over, more = self._script(keys=failure_list.drop_keys, args=arguments)
        return TrimResult(old, over, bool(more))
