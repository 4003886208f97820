"""What workers may still make of Redis's memory: fan-out waits, and a failing handler is paused, before it is full.

A failed event needs four times the memory of one that waits: it becomes a job of its own, or a dead letter with its
traceback. Above `memory.FAILURES_SHARE` a handler may leave such behind only as far as what it delivers makes room for
it. One that cannot is paused: its events stay in their jobs, as they are, and no attempt is spent. It goes on by itself
when there is room, or when the one event that is tried now and then is delivered.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

import redis

from shared import memory
from shared.memory import Memory
from workers.runtime.outcome import Done, Failed, Outcome, Paused, Rejected, RetryRequested

log = logging.getLogger("callbacks.worker")

# Redis is asked at most so often, by one process.
_MAX_AGE_SECONDS: Final = 0.25
_POLL_SECONDS: Final = 0.5
# So far below the share it has to be before a handler that was paused fails again, or it would be paused every second.
_RESUME_BELOW: Final = memory.FAILURES_SHARE - 0.05
# How often one event is tried all the same.
_PAUSE_SECONDS: Final = 30.0
# Of an ordinary event, on Redis 7.0: one that waits holds 430 bytes, a retry 1.5 to 2 KB, a dead letter 1.2 KB and its
# texts.
_BYTES_PER_DELIVERED: Final = 400
_BYTES_PER_FAILURE: Final = 2000
# What a handler that has delivered for long may leave behind before it counts.
_MAX_CREDIT_BYTES: Final = 100 * _BYTES_PER_FAILURE


class Headroom:
    """How full Redis is, as `read` told a moment ago, and with what this process has put in since."""

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
        """Note what this process is about to put in."""
        self._added_bytes += size_bytes

    def wait_for_fan_out(self, *, is_stopping: Callable[[], bool]) -> bool:
        """Wait until events may be fanned out; return whether they may, or the worker is to stop before."""
        is_waiting = False
        while (share := self.share()) >= memory.FAN_OUT_SHARE:
            if is_stopping():
                return False
            if not is_waiting:
                log.warning("action=fan_out_waiting used=%.0f%%", share * 100)
            is_waiting = True
            time.sleep(_POLL_SECONDS)
        if is_waiting:
            log.info("action=fan_out_resumed used=%.0f%%", share * 100)
        return True


class FailureLimit:
    """What one handler may leave behind of its failures, in one process."""

    def __init__(self, headroom: Headroom) -> None:
        self._headroom = headroom
        self._credit_bytes = 0

    def apply(self, outcome: Outcome, *, is_probe: bool) -> Outcome:
        """Return the outcome of a call, or a pause instead where it would make Redis too full.

        A probe's failure counts, whatever it needs: another event has its turn the next time.
        """
        if isinstance(outcome, Done):
            self._credit_bytes = min(self._credit_bytes + _BYTES_PER_DELIVERED, _MAX_CREDIT_BYTES)
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
        """Whether a handler that was paused for its failures may have some again."""
        return self._headroom.share() < _RESUME_BELOW


def _reason(share: float) -> str:
    return f"Redis is {share:.0%} full; retries of this handler would fill it"
