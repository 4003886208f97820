"""What the web process counts for /metrics: accepted callbacks, answers, batches, and how long each took."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from ingest.answers import Answer
from ingest.group_commit import BatchEntry, Destination, Store
from shared import refusals
from shared.batches import counted_kind
from shared.metrics import ACCEPTED, SECONDS_BUCKETS, SIZE_BUCKETS, MetricName, Metrics

# Every status that we answer. Any other would be a bug, and is counted as OTHER.
STATUSES: Final = frozenset((200, *(reason.status for reason in refusals.REASONS.values())))
OTHER: Final = "other"

_NAMES: Final[dict[int, MetricName]] = {status: ("responses", status) for status in STATUSES}
_OTHER_NAME: Final[MetricName] = ("responses", OTHER)


class AnswerMetrics:
    """Counts answers by status and refusals by reason and sender, and measures the seconds that each 200 took."""

    def __init__(self, metrics: Metrics, *, now_seconds: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._now_seconds = now_seconds
        self._seconds = metrics.histogram(("acknowledged",), SECONDS_BUCKETS)
        self._refused_addresses: dict[str, tuple[str, float]] = {}

    def count(self, answer: Answer, seconds: float) -> None:
        """Count an answer."""
        self._metrics.add(_NAMES.get(answer.status, _OTHER_NAME))
        if answer.status == 200:  # noqa: PLR2004 # OK
            self._seconds.observe(seconds)
        elif answer.problem:
            self._metrics.add(("refused", answer.problem, answer.sender))
            if answer.address:
                name = refusals.address_name(answer.problem, answer.sender)
                self._refused_addresses[name] = answer.address, self._now_seconds()

    def refused_addresses(self) -> dict[str, tuple[str, float]]:
        """Return, by `refusals.address_name`, the address of the last refused request, and how many seconds ago.

        One older than ten minutes is left out. Any thread may call it.
        """
        now_seconds = self._now_seconds()
        return {
            name: (address, now_seconds - at_seconds)
            for name, (address, at_seconds) in self._refused_addresses.copy().items()
            if now_seconds - at_seconds <= refusals.WINDOW_SECONDS
        }


class MeasuredStore:
    """Writes batches to `store` and measures them: callbacks by kind and source, callbacks in a batch, seconds."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._seconds = metrics.histogram(("commit",), SECONDS_BUCKETS)
        self._sizes = metrics.histogram(("batch",), SIZE_BUCKETS)

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        """Make `batch` durable, and return where. Raise StoreUnavailable, and then count nothing."""
        began_seconds = time.perf_counter()
        destination = await self._store.write(batch)
        self._seconds.observe(time.perf_counter() - began_seconds)
        self._sizes.observe(len(batch))
        for (kind, source), number in Counter((entry.kind, entry.source) for entry in batch).items():
            self._metrics.add((ACCEPTED, counted_kind(kind), source), number)
        return destination

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()
