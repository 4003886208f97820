"""What one fan-out settles in one step: items of one or more jobs, in order, and the ends of jobs."""

from typing import Self

from msgspec import Struct

from shared.batches import Accepted
from workers.expand.fan_out import RecordResult
from workers.runtime.claim import ClaimedJob
from workers.runtime.settlement import FanOutEvent, NewFailure, Settlement


class ChunkItem(Struct, frozen=True, gc=False):
    """An item with its job and the job's progress before it; without an item, the end of the job.

    `origin` is the callback without its body, which may be large.
    """

    claimed: ClaimedJob
    start: int
    origin: Accepted | None = None
    read: RecordResult | None = None

    @property
    def end(self) -> int:
        """The job's progress after the item."""
        if self.read is None:
            return self.start
        return self.start + (self.read.records if isinstance(self.read, NewFailure) else 1)


class Chunk:
    """Items that are settled together. It is full with `max_events` items, or with `max_bytes` of events."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events, self._max_bytes = max_events, max_bytes
        self.items: list[ChunkItem] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no further item may be added."""
        return len(self.items) >= self._max_events or self._bytes >= self._max_bytes

    def add(self, item: ChunkItem) -> None:
        """Add the item that follows the last one."""
        self.items.append(item)
        if isinstance(item.read, FanOutEvent):
            self._bytes += len(item.read.event)

    def with_items(self, *items: ChunkItem) -> Self:
        """Return a chunk with the same limits and these items."""
        chunk = type(self)(max_events=self._max_events, max_bytes=self._max_bytes)
        for item in items:
            chunk.add(item)
        return chunk

    def halves(self) -> tuple[Self, Self]:
        """Return its first and its second half: fanned out one after the other, they have the same effect."""
        middle = len(self.items) // 2
        return self.with_items(*self.items[:middle]), self.with_items(*self.items[middle:])

    @property
    def offers(self) -> list[FanOutEvent]:
        """Its events."""
        return [item.read for item in self.items if isinstance(item.read, FanOutEvent)]

    @property
    def unreadable(self) -> list[NewFailure]:
        """Its records that go to the quarantine."""
        return [item.read for item in self.items if isinstance(item.read, NewFailure)]

    def settlements(self) -> list[Settlement]:
        """Return the progress of each job, before and after."""
        found: list[Settlement] = []
        first: ChunkItem | None = None
        for item, following in zip(self.items, [*self.items[1:], None], strict=True):
            first = first or item
            if following is None or following.claimed is not item.claimed:
                ends = item.read is None
                found.append(Settlement(item.claimed, str(first.start), str(item.end), ends=ends))
                first = None
        return found
