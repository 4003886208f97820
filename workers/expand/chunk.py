"""What one atomic step of expanding settles: items of one or more jobs, in order, and where such a job ends."""

from typing import Self

from msgspec import Struct

from shared.batches import Accepted
from workers.runtime.settlement import ClaimedJob, FanOutEvent, Item, NewFailure, Settlement


class ChunkItem(Struct, frozen=True, gc=False):
    """An item with the job that brought it and that job's progress before it; no item: the job ends.

    `origin` is the callback without its body, which may be large.
    """

    claimed: ClaimedJob
    start: int
    origin: Accepted | None = None
    read: Item | None = None

    @property
    def end(self) -> int:
        """The job's progress after it."""
        if self.read is None:
            return self.start
        return self.start + (self.read.records if isinstance(self.read, NewFailure) else 1)


class Chunk:
    """Some pieces. It is full with so many events, or bytes of events."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events, self._max_bytes = max_events, max_bytes
        self.items: list[ChunkItem] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no further piece belongs into it."""
        return len(self.items) >= self._max_events or self._bytes >= self._max_bytes

    def add(self, item: ChunkItem) -> None:
        """Take a piece, the one behind the last."""
        self.items.append(item)
        if isinstance(item.read, FanOutEvent):
            self._bytes += len(item.read.event)

    def with_items(self, *items: ChunkItem) -> Self:
        """Return a commit of the same bounds with these pieces."""
        made = type(self)(max_events=self._max_events, max_bytes=self._max_bytes)
        for item in items:
            made.add(item)
        return made

    def halves(self) -> tuple[Self, Self]:
        """Return its first and its second half: carried out one after the other, they come to the same."""
        middle = len(self.items) // 2
        return self.with_items(*self.items[:middle]), self.with_items(*self.items[middle:])

    @property
    def offers(self) -> list[FanOutEvent]:
        """The events in it."""
        return [item.read for item in self.items if isinstance(item.read, FanOutEvent)]

    @property
    def unreadable(self) -> list[NewFailure]:
        """What is to be set aside."""
        return [item.read for item in self.items if isinstance(item.read, NewFailure)]

    def settlements(self) -> list[Settlement]:
        """Return how it moves the progress of each job."""
        found: list[Settlement] = []
        first: ChunkItem | None = None
        for item, following in zip(self.items, [*self.items[1:], None], strict=True):
            first = first or item
            if following is None or following.claimed is not item.claimed:
                ends = item.read is None
                found.append(Settlement(item.claimed, str(first.start), str(item.end), ends=ends))
                first = None
        return found
