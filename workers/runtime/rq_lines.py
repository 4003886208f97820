"""Which lines of RQ's own log are written: those that say what no line of this service does."""

import logging
from typing import Final

from workers.runtime.redis_availability import redis_availability
from workers.runtime.redis_retry import is_unavailable

# What is logged here as `redis_unavailable`, or as `job_failed` and the like.
_KNOWN: Final = ("exception raised while executing", "Redis connection timeout", "could not connect to Redis")


def install() -> None:
    """Filter the lines of RQ's workers."""
    logging.getLogger("rq.worker").addFilter(_is_unknown)


def _is_unknown(record: logging.LogRecord) -> bool:
    exc = record.exc_info[1] if record.exc_info else None
    if exc is not None and is_unavailable(exc):
        redis_availability.failed(exc)
        return False
    return not any(words in str(record.msg) for words in _KNOWN)
