"""Counts a run while it runs, and summarizes it at the end."""

import math
from array import array
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from callbacks.simulator.callback import EncodedBody
from callbacks.simulator.delivery import Attempt, CallbackDelivery


class RunProgress(Struct, frozen=True, kw_only=True):
    """The progress of a run, in callbacks."""

    planned: int
    acknowledged: int
    discarded: int
    waiting: int
    """Failed, and waiting to be sent again."""
    failed_attempts: dict[str, int]
    """Failed attempts by reason, the most frequent first."""


class RunSummary(Struct, frozen=True, kw_only=True):
    """The result of a run. Counts are of callbacks unless they say otherwise."""

    planned: int
    sent: int
    """With at least one finished attempt."""
    repeats: int
    """Planned repeats among `sent`."""
    odd: int
    """Written oddly, among `sent`."""
    acknowledged: int
    discarded: int
    unfinished: int
    """Neither acknowledged nor discarded, because the run was interrupted."""
    records: int
    """Reports and replies in acknowledged callbacks, repeats included."""
    reports: int
    """Distinct reports in acknowledged callbacks."""
    replies: int
    """Distinct replies, by reply_message_id, in acknowledged callbacks."""
    attempts: int
    failed_attempts: dict[str, int]
    """Failed attempts by reason, the most frequent first."""
    seconds: float
    rate: float
    """Acknowledged callbacks per second of the whole run, delays before retries included."""
    p50_ms: float | None
    """Median time to acknowledgement; None if nothing was acknowledged."""
    p99_ms: float | None
    max_ms: float | None
    interrupted: bool


class RunCounter:
    """Counts one run."""

    def __init__(self, planned: int) -> None:
        self._planned = planned
        self._sent = self._repeats = self._odd = self._discarded = self._attempts = 0
        self._failed: Counter[str] = Counter()
        self._latencies_ms = array("d")
        self._acknowledged = list[EncodedBody]()

    def count(self, delivery: CallbackDelivery) -> None:
        """Count the latest attempt of `delivery`, and its end if it is finished."""
        attempt: Attempt = delivery.attempts[-1]
        self._attempts += 1
        if len(delivery.attempts) == 1:
            self._sent += 1
            self._repeats += delivery.callback.repeat
            self._odd += delivery.callback.oddity != ""
        if attempt.reason is None:
            self._latencies_ms.append(attempt.latency_ms)
            self._acknowledged.append(delivery.last_body)
            return
        self._failed[attempt.reason] += 1
        self._discarded += delivery.is_finished

    @property
    def has_only_failures(self) -> bool:
        """Whether there were attempts, and none was acknowledged."""
        return self._attempts > 0 and not self._acknowledged

    @property
    def has_sent_all(self) -> bool:
        """Whether each callback has had at least one attempt."""
        return self._sent == self._planned

    def progress(self) -> RunProgress:
        """Return the progress of the run."""
        acknowledged = len(self._acknowledged)
        return RunProgress(
            planned=self._planned,
            acknowledged=acknowledged,
            discarded=self._discarded,
            waiting=self._sent - acknowledged - self._discarded,
            failed_attempts=dict(self._failed.most_common()),
        )

    def summary(self, *, seconds: float, interrupted: bool) -> RunSummary:
        """Return the summary of the run, which took `seconds`."""
        acknowledged = len(self._acknowledged)
        latencies_ms = sorted(self._latencies_ms)
        return RunSummary(
            planned=self._planned,
            sent=self._sent,
            repeats=self._repeats,
            odd=self._odd,
            acknowledged=acknowledged,
            discarded=self._discarded,
            unfinished=self._planned - acknowledged - self._discarded,
            records=sum(len(body.reports) + len(body.replies) for body in self._acknowledged),
            reports=len({key for body in self._acknowledged for key in body.reports}),
            replies=len({reply_id for body in self._acknowledged for reply_id, _ in body.replies}),
            attempts=self._attempts,
            failed_attempts=dict(self._failed.most_common()),
            seconds=round(seconds, 3),
            rate=round(acknowledged / seconds, 1) if seconds else 0.0,
            p50_ms=percentile(latencies_ms, 0.50),
            p99_ms=percentile(latencies_ms, 0.99),
            max_ms=percentile(latencies_ms, 1),
            interrupted=interrupted,
        )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that `share` of the ascending values do not exceed (nearest rank)."""
    if not ordered:
        return None
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]
