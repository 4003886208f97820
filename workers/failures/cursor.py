"""Going through a shelf from its newest entry to its oldest, a bounded part at a time, for those that are wanted.

Where a part ends is a place: the time and the id of an entry. It means the same while entries come and go, also when
that entry itself is gone, so going on from there misses none and gives none twice. Nothing is changed.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar

import redis
from msgspec import Struct
from rq.utils import as_text

from shared.stored_times import stored_ms
from workers.failures import failure, store
from workers.failures.failure import DeadLetterRow, QuarantineRow
from workers.failures.failure_list import Shelf
from workers.runtime import scripts

Row: TypeAlias = QuarantineRow | DeadLetterRow
Found = TypeVar("Found")

# What is looked at for one page, or one step, when hardly any is wanted: some ten round trips.
MOST_LOOKED: Final = 5000
_A_READ: Final = 500


class Place(Struct, frozen=True):
    """An entry, by its time in ms as the index has it, and its id; what comes after it is older."""

    time_ms: int
    entry_id: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Read what `text` gave. Raises ValueError."""
        found = re.fullmatch(r"([0-9]{1,15})-([0-9A-Za-z_-]{1,64})", text)
        if found is None:
            raise ValueError("is no place in a list")
        return cls(int(found[1]), found[2])

    @classmethod
    def before(cls, time_ms: int) -> Self:
        """Give the place before all entries of this time: what comes after it is of that time, or older."""
        return cls(time_ms, "z")  # ids are hexadecimal

    @property
    def text(self) -> str:
        """The place as a form or a URL carries it."""
        return f"{self.time_ms}-{self.entry_id}"


class Sieve(Struct, frozen=True, kw_only=True):
    """Which entries are wanted: those whose error holds a text, in any case; in the quarantine by the other two also.

    What is "" wants all; the kind of a callback whose URL named none is "unknown".
    """

    error: str = ""
    source: str = ""
    kind: str = ""

    @property
    def wants_all(self) -> bool:
        """Whether no entry is left out."""
        return not (self.error or self.source or self.kind)

    def wants(self, row: Row) -> bool:
        """Tell whether an entry is wanted."""
        if self.error.casefold() not in row.error.casefold():
            return False
        if isinstance(row, DeadLetterRow):
            return not self.source and not self.kind
        return self.source in ("", row.source) and self.kind in ("", row.kind or "unknown")


class Part(Struct, Generic[Found], frozen=True):
    """What was found, and where to go on, None at the end; how many entries were looked at for it."""

    found: tuple[Found, ...]
    place: Place | None
    looked: int


class Walk:
    """Goes through shelves over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any = connection
        self._script: Any = connection.register_script(scripts.load("failures/cursor"))

    def rows(
        self, shelf: Shelf, sieve: Sieve, *, after: Place | None = None, most: int, most_looked: int = MOST_LOOKED
    ) -> Part[Row]:
        """Give wanted rows after a place: `most` of them, or what there is among `most_looked` entries."""
        names = failure.QUARANTINE_ROW if shelf.handler is None else failure.DEAD_LETTER_ROW
        found: list[Row] = []
        place, looked = after, 0
        while True:
            # One more than can be given: it tells whether anything comes after them.
            number = min(_A_READ if not sieve.wants_all else most - len(found) + 1, _A_READ)
            stood = self.places(shelf.index, after=place, most=number)
            rows = store.read(self._connection, shelf, [one.entry_id for one in stood], names)
            for one, (_, values) in zip(stood, rows, strict=True):
                if len(found) == most or looked == most_looked:
                    return Part(tuple(found), place, looked)
                place, looked = one, looked + 1
                row = None if values[0] is None else _row(shelf, one.entry_id, values)  # let go by Redis
                if row is not None and sieve.wants(row):
                    found.append(row)
            if len(stood) < number:
                return Part(tuple(found), None, looked)

    def named(self, shelf: Shelf, ids: Iterable[str]) -> list[Row]:
        """Give the rows of these entries, as far as they are there."""
        names = failure.QUARANTINE_ROW if shelf.handler is None else failure.DEAD_LETTER_ROW
        rows = store.read(self._connection, shelf, ids, names)
        return [_row(shelf, entry_id, values) for entry_id, values in rows if values[0] is not None]

    def places(self, index: str, *, after: Place | None, most: int) -> list[Place]:
        """Give the next members of an index after a place, newest first."""
        where = ("", "") if after is None else (after.time_ms, after.entry_id)
        told: Sequence[bytes] = self._script(keys=[index], args=[*where, most])
        return [Place(stored_ms(time), as_text(entry)) for entry, time in zip(told[::2], told[1::2], strict=True)]


def _row(shelf: Shelf, entry_id: str, values: Sequence[bytes]) -> Row:
    if shelf.handler is None:
        return failure.quarantine_row(entry_id, values)
    return failure.dead_letter_row(shelf.handler, entry_id, values)
