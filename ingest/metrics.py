"""What the web process counts for /metrics: accepted callbacks, answers, batches, and how long each took."""

import time
from collections.abc import Sequence
from typing import Final

from ingest.group_commit import BatchEntry, Store
from shared.batches import counted_kind
from shared.metrics import SECONDS, SIZES, Figures, Name

# Every status that we answer. Any other would be a bug, and is counted as OTHER.
STATUSES: Final = frozenset((200, 400, 403, 404, 405, 408, 413, 415, 503))
OTHER: Final = "other"

_NAMES: Final[dict[int, Name]] = {status: ("answers", status) for status in STATUSES}
_OTHER_NAME: Final[Name] = ("answers", OTHER)


class AnswerMetrics:
    """Counts answers by status, and measures the seconds that each 200 took."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._seconds = figures.histogram(("acknowledged",), SECONDS)

    def count(self, status: int, seconds: float) -> None:
        """Count an answer."""
        self._figures.add(_NAMES.get(status, _OTHER_NAME))
        if status == 200:  # noqa: PLR2004 # OK
            self._seconds.observe(seconds)


class MeasuredStore:
    """Writes batches to `store` and measures them: callbacks by kind and source, callbacks in a batch, seconds."""

    def __init__(self, store: Store, figures: Figures) -> None:
        self._store = store
        self._figures = figures
        self._seconds = figures.histogram(("commit",), SECONDS)
        self._sizes = figures.histogram(("batch",), SIZES)

    async def write(self, batch: Sequence[BatchEntry]) -> None:
        """Make `batch` durable. Raises StoreUnavailable, and then counts nothing."""
        began_seconds = time.perf_counter()
        await self._store.write(batch)
        self._seconds.observe(time.perf_counter() - began_seconds)
        self._sizes.observe(len(batch))
        for entry in batch:
            self._figures.add(("received", counted_kind(entry.kind), entry.source))

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()
