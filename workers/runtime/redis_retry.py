"""Waiting while Redis is unavailable, where what was done cannot be undone and so has to be written down."""

import re
import time
from collections.abc import Callable
from typing import Final, TypeVar

import redis

from workers.runtime.redis_availability import redis_availability

T = TypeVar("T")

# Redis does not answer.
UNAVAILABLE: Final = (redis.ConnectionError, redis.TimeoutError)
# How Redis says that it cannot write now: out of memory, a replica, no disk, too few replicas, and the like. Inside
# a script some servers put the code in the middle of their sentence, as redis-py does for a command of a pipeline.
_NOT_NOW: Final = re.compile(
    r"(?:^|-|caused error: )(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY)\b"
)
_RETRY_SECONDS: Final = 0.5
# How long a worker that has to stop waits for Redis. What it could not settle is in its completion journal.
STOP_WAIT_SECONDS: Final = 3.0


def never_stopping() -> bool:
    """Return False: the `is_stopping` of work that nothing stops."""
    return False


def retry_while_unavailable(call: Callable[[], T], *, is_stopping: Callable[[], bool] = never_stopping) -> T:
    """Repeat `call` until Redis carries it out, and return its result; it must be safe to carry out twice.

    Raise redis.RedisError if waiting does not help, or has lasted STOP_WAIT_SECONDS since `is_stopping()`.
    """
    stop_asked_at: float | None = None
    while True:
        try:
            result = call()
        except redis.RedisError as exc:
            if not is_temporary(exc):
                raise
            if stop_asked_at is None and is_stopping():
                stop_asked_at = time.monotonic()
            if stop_asked_at is not None and time.monotonic() - stop_asked_at >= STOP_WAIT_SECONDS:
                raise
            redis_availability.failed(exc)
            time.sleep(_RETRY_SECONDS)
            continue
        redis_availability.succeeded()
        return result


def is_unavailable(exc: BaseException) -> bool:
    """Return whether `exc` says that Redis cannot be used now, whatever is asked of it."""
    return isinstance(exc, UNAVAILABLE) or is_temporary(exc)


def is_temporary(exc: BaseException) -> bool:
    """Return whether `exc` says that Redis is unavailable or cannot write now, so that waiting helps."""
    temporary = (*UNAVAILABLE, redis.OutOfMemoryError, redis.ReadOnlyError)
    if isinstance(exc, (redis.AuthenticationError, redis.exceptions.AuthorizationError)):
        return False
    return isinstance(exc, temporary) or (isinstance(exc, redis.RedisError) and _NOT_NOW.search(str(exc)) is not None)
