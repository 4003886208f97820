"""Removes entries that are some days old, by the time that is in their ids: the clock of that Redis."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from callbacks import redis as connections

# Redis does nothing else while it removes them: about 2 ms.
_ENTRIES_PER_CALL: Final = 10_000
_PAUSE_SECONDS: Final = 0.02
_TIMEOUT_SECONDS: Final = 10.0


def find_oldest(url: str, key: str) -> datetime | None:
    """Return the time of the oldest entry, None if there is none. Raise redis.RedisError."""
    with contextlib.closing(connections.connect(url, timeout_seconds=_TIMEOUT_SECONDS)) as client:
        found: Any = client.xrange(key, count=1)
    return datetime.fromtimestamp(int(found[0][0].partition(b"-")[0]) / 1000, UTC) if found else None


def remove_old(url: str, key: str, before: datetime, *, wait: Callable[[float], bool]) -> int:
    """Remove entries older than `before`; return how many. Raise redis.RedisError.

    `wait` waits for some seconds, and returns whether to stop.
    """
    min_id = max(0, int(before.timestamp() * 1000))
    removed = 0
    with contextlib.closing(connections.connect(url, timeout_seconds=_TIMEOUT_SECONDS)) as client:
        # Whole nodes first, of some 100 entries. The limit would leave the rest of a node.
        while number := int(client.xtrim(key, minid=min_id, approximate=True, limit=_ENTRIES_PER_CALL)):
            removed += number
            if wait(_PAUSE_SECONDS):
                return removed
        return removed + int(client.xtrim(key, minid=min_id, approximate=False))
