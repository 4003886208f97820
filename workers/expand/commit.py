"""What one atomic step of expanding settles: items of one or more jobs, in order, and where such a job ends."""

from typing import Self

from msgspec import Struct

from shared.batches import Kept
from workers.runtime.settlement import Item, Offer, Portion, SetAside, Settlement


class Piece(Struct, frozen=True, gc=False):
    """An item with the job that brought it and that job's progress before it; no item: the job ends.

    `origin` is the callback without its body, which may be large.
    """

    portion: Portion
    start: int
    origin: Kept | None = None
    item: Item | None = None

    @property
    def end(self) -> int:
        """The job's progress after it."""
        if self.item is None:
            return self.start
        return self.start + (self.item.records if isinstance(self.item, SetAside) else 1)


class Commit:
    """Some pieces. It is full with so many events, or bytes of events."""

    def __init__(self, *, most_events: int, most_bytes: int) -> None:
        self._most_events, self._most_bytes = most_events, most_bytes
        self.pieces: list[Piece] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no further piece belongs into it."""
        return len(self.pieces) >= self._most_events or self._bytes >= self._most_bytes

    def add(self, piece: Piece) -> None:
        """Take a piece, the one behind the last."""
        self.pieces.append(piece)
        if isinstance(piece.item, Offer):
            self._bytes += len(piece.item.event)

    def of(self, *pieces: Piece) -> Self:
        """Return a commit of the same bounds with these pieces."""
        made = type(self)(most_events=self._most_events, most_bytes=self._most_bytes)
        for piece in pieces:
            made.add(piece)
        return made

    def halves(self) -> tuple[Self, Self]:
        """Return its first and its second half: carried out one after the other, they come to the same."""
        middle = len(self.pieces) // 2
        return self.of(*self.pieces[:middle]), self.of(*self.pieces[middle:])

    @property
    def offered(self) -> list[Offer]:
        """The events in it."""
        return [piece.item for piece in self.pieces if isinstance(piece.item, Offer)]

    @property
    def unreadable(self) -> list[SetAside]:
        """What is to be set aside."""
        return [piece.item for piece in self.pieces if isinstance(piece.item, SetAside)]

    def settlements(self) -> list[Settlement]:
        """Return how it moves the progress of each job."""
        found: list[Settlement] = []
        first: Piece | None = None
        for piece, following in zip(self.pieces, [*self.pieces[1:], None], strict=True):
            first = first or piece
            if following is None or following.portion is not piece.portion:
                ends = piece.item is None
                found.append(Settlement(piece.portion, str(first.start), str(piece.end), ends=ends))
                first = None
        return found
