"""Callbacks accepted and refused, and dead letters, in the last hour, in buckets of ten seconds, stored in Redis.

A ring (`shared.ring_buffer`) of at most 300 KiB: callbacks accepted, refusals by reason and sender, response times,
fields that could not be read, and dead letters of all handlers.

    cb:recent-rate    {"bucket": unix seconds / 10, "callbacks": n, "le|0.005": n, "refused|too-large|known": n,
                       "unreadable|timestamp": n, "dead": n, …}
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from msgspec import Struct

from shared import keys, refusals, ring_buffer
from shared.metrics import ACCEPTED, DEAD, INFINITY, SECONDS_BUCKETS, SEPARATOR
from shared.schema import OPTIONAL_KEYS

BUCKET_SECONDS: Final = 10
SHOWN_BUCKETS: Final = 3600 // BUCKET_SECONDS
# The buckets shown, the one being filled, and those that late pushes may still change.
RING: Final = ring_buffer.RingBuffer(keys.RECENT_RATE, bucket_seconds=BUCKET_SECONDS, slots=SHOWN_BUCKETS + 6)
# Processes push every two seconds, so a bucket is complete this long after its end.
LATE_SECONDS: Final = 3.0
# In fewer minutes a quiet service has too few responses for a 99th percentile.
WINDOW_SECONDS: Final = 300

CALLBACKS: Final = "callbacks"
REFUSED: Final = "refused"
UNREADABLE: Final = "unreadable"
_LE: Final = f"le{SEPARATOR}"
_REFUSED_KNOWN: Final = f"{SEPARATOR}known"


class Bucket(Struct, frozen=True):
    """Ten seconds that are over: their start in Unix seconds, and how many callbacks were accepted in them.

    `refused` counts refused requests with a valid token, `dead` the events that became dead letters.
    """

    began_seconds: int
    callbacks: int
    refused: int = 0
    dead: int = 0

    @property
    def callbacks_per_second(self) -> float:
        """The mean rate."""
        return self.callbacks / BUCKET_SECONDS

    @property
    def refused_per_second(self) -> float:
        """The mean rate of refused requests with a valid token."""
        return self.refused / BUCKET_SECONDS


class RefusalCount(Struct, frozen=True, kw_only=True):
    """How many requests were refused for a reason of `refusals.REASONS`, in the last ten minutes and the last hour."""

    reason: str
    sender: refusals.Sender
    ten_minutes: int
    hour: int


class AcknowledgeTimes(Struct, frozen=True, kw_only=True):
    """How long callbacks waited for their 200, in the last `window_seconds`; None without `answers`.

    Estimated from a histogram as Prometheus does it: exact to a bucket of `metrics.SECONDS_BUCKETS`.
    """

    window_seconds: int
    answers: int
    p50_seconds: float | None
    p99_seconds: float | None


class RecentRate(Struct, frozen=True):
    """The buckets of the last hour, oldest first, the response times of its last minutes, and what was refused.

    `accepted_ten_minutes` is what the refusals of that time are compared with. `unreadable` counts the records of the
    last hour in which a field could not be read, by field, the most first.
    """

    buckets: tuple[Bucket, ...]
    acknowledged: AcknowledgeTimes
    refused: tuple[RefusalCount, ...] = ()
    accepted_ten_minutes: int = 0
    unreadable: tuple[tuple[str, int], ...] = ()


def select_growth(metrics: Mapping[str, int]) -> dict[str, int]:
    """Return the growth that counts here: callbacks accepted, refusals, response times, and dead letters."""
    found: Counter[str] = Counter()
    for name, number in metrics.items():
        part, _, rest = name.partition(SEPARATOR)
        if part == ACCEPTED:
            found[CALLBACKS] += number
        elif part == "acknowledged" and rest.startswith(_LE):
            found[rest] += number
        elif part in {REFUSED, UNREADABLE}:
            found[name] += number
        elif part == DEAD and rest:
            found[DEAD] += number
    return dict(found)


def parse(fields: Mapping[bytes, bytes], *, now_seconds: float) -> RecentRate:
    """Parse what Redis holds, at the time `now_seconds` of Redis. A missing bucket counts as empty."""
    held = ring_buffer.parse(fields)
    newest = int((now_seconds - LATE_SECONDS) // BUCKET_SECONDS) - 1
    current = RING.bucket_at(now_seconds)
    recent = range(current - WINDOW_SECONDS // BUCKET_SECONDS, current + 1)
    ten_minutes = range(current - refusals.WINDOW_SECONDS // BUCKET_SECONDS, current + 1)
    return RecentRate(
        tuple(_parse_bucket(bucket, held.get(bucket, {})) for bucket in range(newest - SHOWN_BUCKETS + 1, newest + 1)),
        _acknowledged(held[bucket] for bucket in recent if bucket in held),
        _refused(held, current=current, ten_minutes=ten_minutes),
        sum(int(held.get(bucket, {}).get(CALLBACKS, 0)) for bucket in ten_minutes),
        _unreadable(held.get(bucket, {}) for bucket in range(current - SHOWN_BUCKETS, current + 1)),
    )


def _parse_bucket(bucket: int, counts: Mapping[str, Any]) -> Bucket:
    refused = sum(int(number) for name, number in counts.items() if name.endswith(_REFUSED_KNOWN))
    return Bucket(bucket * BUCKET_SECONDS, int(counts.get(CALLBACKS, 0)), refused, int(counts.get(DEAD, 0)))


def _refused(
    held: Mapping[int, Mapping[str, Any]], *, current: int, ten_minutes: Container[int]
) -> tuple[RefusalCount, ...]:
    """Return what was refused in the hour up to the bucket `current`, the most first."""
    hour: Counter[str] = Counter()
    recent: Counter[str] = Counter()
    for bucket in range(current - SHOWN_BUCKETS, current + 1):
        counts = {name: int(n) for name, n in held.get(bucket, {}).items() if name.startswith(REFUSED + SEPARATOR)}
        hour.update(counts)
        if bucket in ten_minutes:
            recent.update(counts)
    found = []
    for name, number in hour.most_common():
        _, reason, sender = name.split(SEPARATOR)
        if reason in refusals.REASONS and sender in refusals.SENDERS:  # not of another release
            found.append(RefusalCount(reason=reason, sender=sender, ten_minutes=recent[name], hour=number))
    return tuple(found)


def _unreadable(buckets: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, int], ...]:
    hour: Counter[str] = Counter()
    for counts in buckets:
        for name, number in counts.items():
            part, _, field = name.partition(SEPARATOR)
            if part == UNREADABLE and field in OPTIONAL_KEYS:  # not of another release
                hour[field] += int(number)
    return tuple(hour.most_common())


def estimate_percentile(
    counts: Sequence[int], share: float, *, bounds: Sequence[float] = SECONDS_BUCKETS
) -> float | None:
    """Return an estimate of the value below which `share` of the observations lie; None if there are none.

    `counts` has one number for each of `bounds` and one beyond; within a bucket they are taken to be spread evenly,
    and what is beyond the last bound counts as that.
    """
    total = sum(counts)
    if not total:
        return None
    sums = list(accumulate(counts))
    index = bisect_left(sums, share * total)
    if index >= len(bounds):
        return bounds[-1]
    below, least = (sums[index - 1], bounds[index - 1]) if index else (0, 0.0)
    return least + (bounds[index] - least) * (share * total - below) / counts[index]


def _acknowledged(buckets: Iterable[Mapping[str, Any]]) -> AcknowledgeTimes:
    found: Counter[str] = Counter()
    for held in buckets:
        found.update({name: int(number) for name, number in held.items() if name.startswith(_LE)})
    # Bounds of another release are ignored: they cannot be merged with these.
    counts = [found[f"{_LE}{bound}"] for bound in (*SECONDS_BUCKETS, INFINITY)]
    return AcknowledgeTimes(
        window_seconds=WINDOW_SECONDS,
        answers=sum(counts),
        p50_seconds=estimate_percentile(counts, 0.5),
        p99_seconds=estimate_percentile(counts, 0.99),
    )
