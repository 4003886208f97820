"""How many of a handler's calls failed in the last ten minutes: what its health is judged by.

A ring of minutes (`shared.ring_buffer`), at most 150 KiB for a hundred handlers. Nothing is pushed for an idle handler.

    cb:recent-outcomes    {"bucket": unix minutes, "tried|refund": n, "failed|refund": n, …}
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from shared import keys, ring_buffer
from shared.metrics import SEPARATOR

WINDOW_SECONDS: Final = 600
RING: Final = ring_buffer.RingBuffer(keys.RECENT_OUTCOMES, bucket_seconds=60, slots=WINDOW_SECONDS // 60 + 2)

_TRIED: Final = "tried"
_FAILED: Final = "failed"
# Attempts that failed: retried later, or given up on.
_FAILURES: Final = ("retried", "dead")


class RecentOutcomes(Struct, frozen=True):
    """How many events were tried at a handler in the last ten minutes, and how many of these attempts failed."""

    tried: int = 0
    failed: int = 0


def select_growth(metrics: Mapping[str, int]) -> dict[str, int]:
    """Return the growth of a process's metrics that counts here."""
    found: Counter[str] = Counter()
    for name, number in metrics.items():
        part, _, rest = name.partition(SEPARATOR)
        if part == "handler":
            handler, le, _ = rest.rsplit(SEPARATOR, 2) if rest.count(SEPARATOR) > 1 else (rest, "", "")
            if le == "le":
                found[f"{_TRIED}{SEPARATOR}{handler}"] += number
        elif part in _FAILURES and rest:
            found[f"{_FAILED}{SEPARATOR}{rest}"] += number
    return dict(found)


def parse(fields: Mapping[bytes, bytes], *, now_seconds: float) -> dict[str, RecentOutcomes]:
    """Return the outcomes by handler, at the time `now_seconds` of Redis."""
    held = ring_buffer.parse(fields)
    current = RING.bucket_at(now_seconds)
    sums: Counter[str] = Counter()
    for bucket in range(current - WINDOW_SECONDS // RING.bucket_seconds + 1, current + 1):
        sums.update({name: int(number) for name, number in held.get(bucket, {}).items() if SEPARATOR in name})
    handlers = {name.partition(SEPARATOR)[2] for name in sums}
    return {
        handler: RecentOutcomes(sums[f"{_TRIED}{SEPARATOR}{handler}"], sums[f"{_FAILED}{SEPARATOR}{handler}"])
        for handler in handlers
    }
