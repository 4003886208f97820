"""What the web process counts for /metrics: callbacks kept, answers, batches, and how long each of them took."""

import time
from collections.abc import Sequence
from typing import Final

from ingest.group_commit import BatchEntry, Store
from shared.batches import counted_kind
from shared.metrics import SECONDS_BUCKETS, SIZE_BUCKETS, MetricName, Metrics

# What no client can make more of: any other status of ours is a bug, and shows as this.
STATUSES: Final = frozenset((200, 400, 403, 404, 405, 408, 413, 415, 503))
OTHER: Final = "other"

_NAMES: Final[dict[int, MetricName]] = {status: ("responses", status) for status in STATUSES}
_OTHER_NAME: Final[MetricName] = ("responses", OTHER)


class AnswerMetrics:
    """Counts answers by their status, and the seconds until each of those that say 200."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seconds = metrics.histogram(("acknowledged",), SECONDS_BUCKETS)

    def count(self, status: int, seconds: float) -> None:
        """Take note of an answer."""
        self._metrics.add(_NAMES.get(status, _OTHER_NAME))
        if status == 200:  # noqa: PLR2004 # OK
            self._seconds.observe(seconds)


class MeasuredStore:
    """Passes batches on to `store`, and counts what it took: by kind and source, how many at once, how long."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._seconds = metrics.histogram(("commit",), SECONDS_BUCKETS)
        self._sizes = metrics.histogram(("batch",), SIZE_BUCKETS)

    async def write(self, batch: Sequence[BatchEntry]) -> None:
        """Make `batch` durable. Raises StoreUnavailable, and then nothing is counted."""
        began_seconds = time.perf_counter()
        await self._store.write(batch)
        self._seconds.observe(time.perf_counter() - began_seconds)
        self._sizes.observe(len(batch))
        for entry in batch:
            self._metrics.add(("accepted", counted_kind(entry.kind), entry.source))

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()
