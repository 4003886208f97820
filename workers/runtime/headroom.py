"""How workers keep Redis from running out of memory: fan-out waits, and a failing handler is paused, before it is full.

A failed event needs four times the memory of a waiting one: it becomes a job of its own, or a dead letter with its
traceback. Above `memory.FAILURES_SHARE` a handler may add such failures only as far as what it delivers makes room for
them. Beyond that it is paused: its events stay in their jobs and lose no attempt. It is resumed when there is room, or
when the one event that is tried every 30 seconds is delivered.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

import redis

from shared import memory
from shared.memory import Memory
from shared.structured_log import get_logger
from workers.runtime.outcome import Failed, Outcome, Paused, Rejected, RetryRequested

log = get_logger("callbacks.worker")

# How long a process uses what Redis said of its memory.
_MAX_AGE_SECONDS: Final = 0.25
_POLL_SECONDS: Final = 0.5
# A paused handler is resumed only this far below the share: it would otherwise be paused again within a second.
_RESUME_BELOW: Final = memory.FAILURES_SHARE - 0.05
# How often one event is tried while Redis is full.
_PAUSE_SECONDS: Final = 30.0
# Of an ordinary event, on Redis 7.0: one that waits holds 430 bytes, for all handlers that want it together, a retry
# 1.6 to 2.3 KB, a dead letter 1.2 KB and its texts.
_BYTES_PER_DELIVERED: Final = 400
_BYTES_PER_FAILURE: Final = 2000
# What a handler that has delivered many events may add before its failures count.
_MAX_CREDIT_BYTES: Final = 100 * _BYTES_PER_FAILURE


def read_memory(connection: redis.Redis) -> Memory:
    """Return how much memory Redis uses. Raise redis.RedisError."""
    info: Any = connection.info("memory")
    return memory.parse_info(info)


class Headroom:
    """How full Redis is, as `read` said a moment ago, and with what this process has added since."""

    def __init__(self, read: Callable[[], Memory]) -> None:
        self._read = read
        self._memory = Memory(0, 0)
        self._read_at = -_MAX_AGE_SECONDS
        self._added_bytes = 0

    def share(self) -> float:
        """Return how much of Redis's maxmemory is used; 0 without one, and as before while Redis is unavailable."""
        now = time.monotonic()
        if now - self._read_at >= _MAX_AGE_SECONDS:
            with contextlib.suppress(redis.RedisError):
                self._memory, self._added_bytes = self._read(), 0
            self._read_at = now
        return Memory(self._memory.used_bytes + self._added_bytes, self._memory.max_bytes).share

    def add(self, size_bytes: int) -> None:
        """Count what this process is about to add."""
        self._added_bytes += size_bytes

    def wait_for_fan_out(self, *, is_stopping: Callable[[], bool]) -> bool:
        """Wait until events may be fanned out; return False if the worker has to stop before."""
        is_waiting = False
        while (share := self.share()) >= memory.FAN_OUT_SHARE:
            if is_stopping():
                return False
            if not is_waiting:
                log.warning("fan_out_waiting", used=f"{share:.0%}")
            is_waiting = True
            time.sleep(_POLL_SECONDS)
        if is_waiting:
            log.info("fan_out_resumed", used=f"{share:.0%}")
        return True


class FailureLimit:
    """How much memory the failures of one handler may take, in one process."""

    def __init__(self, headroom: Headroom) -> None:
        self._headroom = headroom
        self._credit_bytes = 0

    def add_delivered(self, number: int) -> None:
        """Count events that were delivered, and are deleted with it, as no other handler wants them."""
        self._credit_bytes = min(self._credit_bytes + number * _BYTES_PER_DELIVERED, _MAX_CREDIT_BYTES)

    def apply(self, outcome: Outcome, *, is_probe: bool) -> Outcome:
        """Return the outcome of a call, or a pause instead if it would make Redis too full.

        A probe's failure always counts, so that the next probe tries another event.
        """
        if is_probe or not isinstance(outcome, Failed | RetryRequested | Rejected):
            return outcome
        needed = _BYTES_PER_FAILURE + (len(outcome.traceback) if isinstance(outcome, Failed) else 0)
        if self._credit_bytes >= needed:
            self._credit_bytes -= needed
            return outcome
        share = self._headroom.share()
        if share < memory.FAILURES_SHARE:
            self._headroom.add(needed)
            return outcome
        return Paused(_PAUSE_SECONDS, _reason(share), by="memory")

    def has_recovered(self) -> bool:
        """Return whether a handler that was paused for lack of memory may be resumed."""
        return self._headroom.share() < _RESUME_BELOW


def _reason(share: float) -> str:
    return f"Redis is {share:.0%} full; retries of this handler would fill it"
