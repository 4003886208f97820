"""What became of a handler's calls in the last ten minutes, and how long they took: what its health is judged by.

A ring of minutes (`shared.ring_buffer`) of the growth of metrics under their own names: some 3 KiB for a handler, at
most 12. Nothing is pushed for an idle handler.

    cb:recent-outcomes    {"bucket": unix minutes, "call|refund|le|0.05": n, "delivery|refund|le|0.25": n,
                           "retried|refund": n, "dead|refund": n, …}
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from shared import keys, ring_buffer
from shared.metrics import CALL, CALL_BUCKETS, DEAD, DELIVERY, DELIVERY_BUCKETS, INFINITY, RETRIED, SEPARATOR

WINDOW_SECONDS: Final = 600
RING: Final = ring_buffer.RingBuffer(keys.RECENT_OUTCOMES, bucket_seconds=60, slots=WINDOW_SECONDS // 60 + 2)

# Attempts that failed: retried later, or given up on.
_FAILURES: Final = (RETRIED, DEAD)
_LE: Final = f"{SEPARATOR}le{SEPARATOR}"


class RecentOutcomes(Struct, frozen=True):
    """How many events were tried at a handler in the last ten minutes, and how many of these attempts failed.

    `calls` and `deliveries` are how many calls and deliveries took how long, by CALL_BUCKETS and DELIVERY_BUCKETS.
    """

    tried: int = 0
    failed: int = 0
    calls: tuple[int, ...] = ()
    deliveries: tuple[int, ...] = ()


def select_growth(metrics: Mapping[str, int]) -> dict[str, int]:
    """Return the growth of a process's metrics that counts here."""
    return {name: number for name, number in metrics.items() if _counts(*name.partition(SEPARATOR)[::2])}


def _counts(part: str, rest: str) -> bool:
    return _LE in rest if part in (CALL, DELIVERY) else part in _FAILURES


def parse(fields: Mapping[bytes, bytes], *, now_seconds: float) -> dict[str, RecentOutcomes]:
    """Return the outcomes by handler, at the time `now_seconds` of Redis."""
    held = ring_buffer.parse(fields)
    current = RING.bucket_at(now_seconds)
    sums: Counter[str] = Counter()
    for bucket in range(current - WINDOW_SECONDS // RING.bucket_seconds + 1, current + 1):
        sums.update({name: int(number) for name, number in held.get(bucket, {}).items() if SEPARATOR in name})
    return {handler: _outcomes(sums, handler) for handler in {name.split(SEPARATOR)[1] for name in sums}}


def _outcomes(sums: Mapping[str, int], handler: str) -> RecentOutcomes:
    deliveries = _histogram(sums, f"{DELIVERY}{SEPARATOR}{handler}", DELIVERY_BUCKETS)
    failed = sum(sums.get(f"{part}{SEPARATOR}{handler}", 0) for part in _FAILURES)
    calls = _histogram(sums, f"{CALL}{SEPARATOR}{handler}", CALL_BUCKETS)
    return RecentOutcomes(sum(deliveries) + failed, failed, calls, deliveries)


def _histogram(sums: Mapping[str, int], name: str, bounds: Sequence[float]) -> tuple[int, ...]:
    # Bounds of another release are ignored: they cannot be merged with these.
    return tuple(sums.get(f"{name}{_LE}{bound}", 0) for bound in (*bounds, INFINITY))
