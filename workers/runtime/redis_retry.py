"""Waiting for Redis as long as it is unavailable, where what is done cannot be undone and so has to be written down."""

import logging
import re
import time
from collections.abc import Callable
from typing import Final, TypeVar

import redis

log = logging.getLogger("callbacks.worker")

T = TypeVar("T")

# How Redis says that it will not write now: out of memory, a replica, no disk, too few replicas, and the like. Inside
# a script some servers put the code in the middle of their sentence.
_NOT_NOW: Final = re.compile(r"(?:^|-)(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY)\b")
_PAUSE_SECONDS: Final = 0.5
# How long a worker that is to stop waits for Redis. What it could not settle is in its notebook.
LAST_WAIT_SECONDS: Final = 3.0


def never() -> bool:
    """Say of a worker that nobody stops that it goes on."""
    return False


def retry_while_unavailable(call: Callable[[], T], *, is_stopping: Callable[[], bool] = never) -> T:
    """Repeat `call` until Redis carries it out; it must be one that may be carried out twice.

    Raises redis.RedisError where waiting would not help, or has lasted LAST_WAIT_SECONDS since the worker is to stop.
    """
    away = False
    asked: float | None = None
    while True:
        try:
            done = call()
        except redis.RedisError as exc:
            if not may_pass(exc):
                raise
            if asked is None and is_stopping():
                asked = time.monotonic()
            if asked is not None and time.monotonic() - asked >= LAST_WAIT_SECONDS:
                raise
            if not away:
                log.warning("action=redis_away error=%s", exc)
            away = True
            time.sleep(_PAUSE_SECONDS)
            continue
        if away:
            log.warning("action=redis_back")
        return done


def is_unavailable(exc: BaseException) -> bool:
    """Return whether `exc` says that Redis cannot be used now, whatever is asked of it."""
    return isinstance(exc, redis.ConnectionError | redis.TimeoutError) or may_pass(exc)


def may_pass(exc: BaseException) -> bool:
    """Return whether this says that Redis is away or will not write now, so that waiting helps."""
    passing = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError)
    if isinstance(exc, (redis.AuthenticationError, redis.exceptions.AuthorizationError)):
        return False
    return isinstance(exc, passing) or (isinstance(exc, redis.RedisError) and _NOT_NOW.search(str(exc)) is not None)
