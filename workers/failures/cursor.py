"""Read a list of failures page by page, newest first, with a filter; the work for a page is bounded.

A page ends with a cursor: the time and the id of a failure. It stays valid while failures come and go, also if that
failure itself is gone: the next page misses none and repeats none. Nothing is changed.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar

import redis
from msgspec import Struct
from rq.utils import as_text

from shared.events import to_unix_ms
from shared.stored_times import stored_ms
from workers.failures import failure, store
from workers.failures.failure import DeadLetterRow, QuarantineRow
from workers.failures.failure_list import FailureList
from workers.runtime import scripts

Row: TypeAlias = QuarantineRow | DeadLetterRow
Item = TypeVar("Item")

# How many failures are read for one page or step when hardly any matches: about ten round trips.
MAX_SCANNED: Final = 5000
_READ_SIZE: Final = 500


class Cursor(Struct, frozen=True):
    """A position in an index: the time of an item in ms, as the index has it, and its id. What follows is older."""

    time_ms: int
    item_id: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor that `text` stands for. Raise ValueError."""
        found = re.fullmatch(r"([0-9]{1,15})-([0-9A-Za-z_-]{1,64})", text)
        if found is None:
            raise ValueError("not a cursor")
        return cls(int(found[1]), found[2])

    @classmethod
    def before(cls, time_ms: int) -> Self:
        """Return the cursor before all items of this time: what follows is of that time, or older."""
        return cls(time_ms, "z")  # ids are hexadecimal

    @property
    def text(self) -> str:
        """The cursor as a form or a URL carries it."""
        return f"{self.time_ms}-{self.item_id}"


class FailureFilter(Struct, frozen=True, kw_only=True):
    """Which failures match: those whose error contains a text, in any case; in the quarantine also by source and kind.

    "" matches all. The kind is "report", "reply", or "unknown" if the callback's URL named none. `since` and `until`
    limit when they came into the list; `until` itself is not included.
    """

    error: str = ""
    source: str = ""
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def matches_all(self) -> bool:
        """Whether every failure matches."""
        return not self.reads_rows and self.since is None and self.until is None

    @property
    def reads_rows(self) -> bool:
        """Whether a failure must be read to know whether it matches: its time is in the index."""
        return bool(self.error or self.source or self.kind)

    @property
    def first_cursor(self) -> Cursor | None:
        """The cursor after which the matching failures begin; None for the newest failure."""
        return None if self.until is None else Cursor.before(to_unix_ms(self.until) - 1)

    def is_before_since(self, cursor: Cursor) -> bool:
        """Return whether an item, and so all that follow it, is too old to match."""
        return self.since is not None and cursor.time_ms < to_unix_ms(self.since)

    def matches(self, row: Row) -> bool:
        """Return whether a failure matches."""
        at = datetime.fromisoformat(row.died_at if isinstance(row, DeadLetterRow) else row.received_at)
        is_in_time = (self.since is None or self.since <= at) and (self.until is None or at < self.until)
        return is_in_time and self.matches_row(row)

    def matches_row(self, row: Row) -> bool:
        """Return whether a failure matches, whenever it came into the list."""
        if self.error.casefold() not in row.error.casefold():
            return False
        if isinstance(row, DeadLetterRow):
            return not self.source and not self.kind
        return self.source in ("", row.source) and self.kind in ("", row.kind_name)


class Page(Struct, Generic[Item], frozen=True):
    """The items of a page, the cursor of the next one, None at the end, and how many items were read for it."""

    items: tuple[Item, ...]
    next_cursor: Cursor | None
    scanned: int


class IndexReader:
    """Reads indexes by time over one connection. Every method may raise redis.RedisError."""

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
        """Return matching rows after a cursor: `limit` of them, or those among the next `max_scanned` failures."""
        names = failure.QUARANTINE_ROW_FIELDS if failure_list.handler is None else failure.DEAD_LETTER_ROW_FIELDS
        found: list[Row] = []
        cursor, scanned = _later(after, failure_filter.first_cursor), 0
        while True:
            # One more than fits on the page: it says whether there is a next page.
            number = min(_READ_SIZE if failure_filter.reads_rows else limit - len(found) + 1, _READ_SIZE)
            members = self.read_members(failure_list.index, after=cursor, limit=number)
            rows = store.read_fields(self._connection, failure_list, [member.item_id for member in members], names)
            for member, (_, values) in zip(members, rows, strict=True):
                if failure_filter.is_before_since(member):
                    return Page(tuple(found), None, scanned)
                if len(found) == limit or scanned == max_scanned:
                    return Page(tuple(found), cursor, scanned)
                cursor, scanned = member, scanned + 1
                row = None if values[0] is None else _row(failure_list, member.item_id, values)  # expired
                if row is not None and failure_filter.matches_row(row):
                    found.append(row)
            if len(members) < number:
                return Page(tuple(found), None, scanned)

    def read_named(self, failure_list: FailureList, ids: Iterable[str]) -> list[Row]:
        """Return the rows of these failures, without those that are gone."""
        names = failure.QUARANTINE_ROW_FIELDS if failure_list.handler is None else failure.DEAD_LETTER_ROW_FIELDS
        rows = store.read_fields(self._connection, failure_list, ids, names)
        return [_row(failure_list, failure_id, values) for failure_id, values in rows if values[0] is not None]

    def read_members(self, index: str, *, after: Cursor | None, limit: int) -> list[Cursor]:
        """Return the next members of an index after a cursor, newest first."""
        where = ("", "") if after is None else (after.time_ms, after.item_id)
        reply: Sequence[bytes] = self._script(keys=[index], args=[*where, limit])
        return [Cursor(stored_ms(time), as_text(entry)) for entry, time in zip(reply[::2], reply[1::2], strict=True)]


def _later(after: Cursor | None, first: Cursor | None) -> Cursor | None:
    """Return that of two cursors which is further down a list."""
    if after is None or first is None:
        return after or first
    return min(after, first, key=lambda cursor: (cursor.time_ms, cursor.item_id))


def _row(failure_list: FailureList, failure_id: str, values: Sequence[bytes]) -> Row:
    if failure_list.handler is None:
        return failure.parse_quarantine_row(failure_id, values)
    return failure.parse_dead_letter_row(failure_list.handler, failure_id, values)
