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
from workers.failures.failure_list import FailureList
from workers.runtime import scripts

Row: TypeAlias = QuarantineRow | DeadLetterRow
Item = TypeVar("Item")

# What is looked at for one page, or one step, when hardly any is wanted: some ten round trips.
MAX_SCANNED: Final = 5000
_READ_SIZE: Final = 500


class Cursor(Struct, frozen=True):
    """An entry, by its time in ms as the index has it, and its id; what comes after it is older."""

    time_ms: int
    item_id: str

    @classmethod
    def parse(cls, text: str) -> Self:
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
        return f"{self.time_ms}-{self.item_id}"


class FailureFilter(Struct, frozen=True, kw_only=True):
    """Which entries are wanted: those whose error holds a text, in any case; in the quarantine by the other two also.

    What is "" wants all; the kind of a callback whose URL named none is "unknown".
    """

    error: str = ""
    source: str = ""
    kind: str = ""

    @property
    def matches_all(self) -> bool:
        """Whether no entry is left out."""
        return not (self.error or self.source or self.kind)

    def matches(self, row: Row) -> bool:
        """Tell whether an entry is wanted."""
        if self.error.casefold() not in row.error.casefold():
            return False
        if isinstance(row, DeadLetterRow):
            return not self.source and not self.kind
        return self.source in ("", row.source) and self.kind in ("", row.kind or "unknown")


class Page(Struct, Generic[Item], frozen=True):
    """What was found, and where to go on, None at the end; how many entries were looked at for it."""

    items: tuple[Item, ...]
    next_cursor: Cursor | None
    scanned: int


class IndexReader:
    """Goes through shelves over one connection. Every method may raise redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any = connection
        self._script: Any = connection.register_script(scripts.load("failures/cursor"))

    def read_rows(
        self,
        failure_list: FailureList,
        failure_filter: FailureFilter,
        *,
        after: Cursor | None = None,
        limit: int,
        max_scanned: int = MAX_SCANNED,
    ) -> Page[Row]:
        """Give wanted rows after a place: `limit` of them, or what there is among `max_scanned` entries."""
        names = failure.QUARANTINE_ROW_FIELDS if failure_list.handler is None else failure.DEAD_LETTER_ROW_FIELDS
        found: list[Row] = []
        cursor, scanned = after, 0
        while True:
            # One more than can be given: it tells whether anything comes after them.
            number = min(_READ_SIZE if not failure_filter.matches_all else limit - len(found) + 1, _READ_SIZE)
            members = self.read_members(failure_list.index, after=cursor, limit=number)
            rows = store.read_fields(self._connection, failure_list, [member.item_id for member in members], names)
            for member, (_, values) in zip(members, rows, strict=True):
                if len(found) == limit or scanned == max_scanned:
                    return Page(tuple(found), cursor, scanned)
                cursor, scanned = member, scanned + 1
                row = None if values[0] is None else _row(failure_list, member.item_id, values)  # let go by Redis
                if row is not None and failure_filter.matches(row):
                    found.append(row)
            if len(members) < number:
                return Page(tuple(found), None, scanned)

    def read_named(self, failure_list: FailureList, ids: Iterable[str]) -> list[Row]:
        """Give the rows of these entries, as far as they are there."""
        names = failure.QUARANTINE_ROW_FIELDS if failure_list.handler is None else failure.DEAD_LETTER_ROW_FIELDS
        rows = store.read_fields(self._connection, failure_list, ids, names)
        return [_row(failure_list, failure_id, values) for failure_id, values in rows if values[0] is not None]

    def read_members(self, index: str, *, after: Cursor | None, limit: int) -> list[Cursor]:
        """Give the next members of an index after a place, newest first."""
        where = ("", "") if after is None else (after.time_ms, after.item_id)
        reply: Sequence[bytes] = self._script(keys=[index], args=[*where, limit])
        return [Cursor(stored_ms(time), as_text(entry)) for entry, time in zip(reply[::2], reply[1::2], strict=True)]


def _row(failure_list: FailureList, failure_id: str, values: Sequence[bytes]) -> Row:
    if failure_list.handler is None:
        return failure.parse_quarantine_row(failure_id, values)
    return failure.parse_dead_letter_row(failure_list.handler, failure_id, values)
