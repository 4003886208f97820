"""The time by which leases end: Redis's, unless its clock was set since it was last read.

A clock that is set forward (NTP, a virtual machine that resumes, a failover to a host whose clock is ahead) makes
leases look ended that live workers renewed seconds ago. Redis's clock is compared with this process's monotonic one,
which nobody sets. If Redis's ran ahead of it, the caller has to wait until all supervisors have renewed their leases.
"""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

# A supervisor waits no longer than 5 s for a reply, so a slow one looks like a smaller step. A lease lasts 45 s and is
# renewed every 10 s: a step that is not noticed, 10 s at most, ends none.
_TOLERANCE_SECONDS: Final = 5.0


class LeaseTime(NamedTuple):
    """Redis's time in seconds since 1970, and whether it ran ahead, or another primary replied, since the last one."""

    seconds: int
    has_stepped: bool


class LeaseClock:
    """Reads the time of the Redis behind `connection`."""

    def __init__(self, connection: Any, *, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._now_seconds = now_seconds
        # Redis's clock minus ours.
        self._offset_seconds: float | None = None
        self._primary = ""

    @property
    def is_read(self) -> bool:
        """Whether there is a reading to compare the next one with."""
        return self._offset_seconds is not None

    def read(self, primary: str) -> LeaseTime:
        """Return the time; `primary` is the replication id of the server. Raise redis.RedisError."""
        seconds, microseconds = self._connection.time()
        before, self._offset_seconds = self._offset_seconds, seconds + microseconds / 1e6 - self._now_seconds()
        previous, self._primary = self._primary, primary
        ran_ahead = before is not None and self._offset_seconds - before > _TOLERANCE_SECONDS
        return LeaseTime(seconds, has_stepped=ran_ahead or previous not in {"", primary})
