"""Search the failures for a message: for an id or a phone number in their events and bodies.

They have no index for that, so they are read: a bounded page at a time, newest first, one list after the other, with a
cursor for the next page. Nothing is changed.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, Self, TypeAlias

import redis
from msgspec import Struct

from shared import phone_numbers
from workers.failures import store
from workers.failures.cursor import Cursor, IndexReader, Row
from workers.failures.failure_list import FailureList, all_lists

# For one page: about 100 ms of reading.
MAX_FAILURES: Final = 1000
MAX_BYTES: Final = 8 << 20
_MAX_HITS: Final = 50
_READ_SIZE: Final = 100
_BETWEEN: Final = phone_numbers.between_digits()
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|[tnr/])")
_OTHER_DIGIT: Final = re.compile(r"(?![0-9])\d")

_Matcher: TypeAlias = Callable[[bytes], bool]


class SearchCursor(Struct, frozen=True):
    """Where the next page begins: in which list, and after which failure; None means with its newest."""

    list_name: str
    cursor: Cursor | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor that `text` stands for. Raise ValueError."""
        name, _, cursor = text.partition(" ")
        return cls(name, Cursor.parse(cursor) if cursor else None)

    @property
    def text(self) -> str:
        """The cursor as a form or a URL carries it."""
        return f"{self.list_name} {self.cursor.text}" if self.cursor else self.list_name


class SearchHit(Struct, frozen=True):
    """A failure that contains what was searched for, and its list."""

    failure_list: FailureList
    row: Row


class SearchPage(Struct, frozen=True):
    """What was found, how many failures were read, and the cursor of the next page; None at the end."""

    hits: tuple[SearchHit, ...]
    scanned: int
    next_cursor: SearchCursor | None


def search(connection: redis.Redis, wanted: str, *, start: SearchCursor | None = None) -> SearchPage:
    """Return the failures that contain an id or a number as a whole word. Raise redis.RedisError.

    A phone number is found in any spelling.
    """
    matches = _matcher(wanted)
    # The quarantine comes last: its bodies are the largest.
    ordered = sorted(all_lists(connection), key=lambda failure_list: (failure_list.handler is None, failure_list.name))
    names = [failure_list.name for failure_list in ordered]
    first = names.index(start.list_name) if start is not None and start.list_name in names else 0
    cursor = start.cursor if start is not None and start.list_name in names else None
    hits: list[SearchHit] = []
    scanned = total_bytes = 0
    for failure_list in ordered[first:]:
        for at, size_bytes in _iterate_members(connection, failure_list, cursor):
            if scanned and (scanned == MAX_FAILURES or total_bytes + size_bytes > MAX_BYTES or len(hits) == _MAX_HITS):
                return SearchPage(tuple(hits), scanned, SearchCursor(failure_list.name, cursor))
            scanned, total_bytes, cursor = scanned + 1, total_bytes + size_bytes, at
            if _mentions(connection, failure_list, at.item_id, matches):
                hits += (
                    SearchHit(failure_list, row)
                    for row in IndexReader(connection).read_named(failure_list, [at.item_id])
                )
        cursor = None
    return SearchPage(tuple(hits), scanned, None)


def _iterate_members(
    connection: redis.Redis, failure_list: FailureList, cursor: Cursor | None
) -> Iterator[tuple[Cursor, int]]:
    reader = IndexReader(connection)
    while True:
        members = reader.read_members(failure_list.index, after=cursor, limit=_READ_SIZE)
        sizes = store.read_fields(connection, failure_list, [one.item_id for one in members], ("bytes",))
        for one, (_, (size,)) in zip(members, sizes, strict=True):
            yield one, int(size or 0)
        if len(members) < _READ_SIZE:
            return
        cursor = members[-1]


def _mentions(connection: Any, failure_list: FailureList, failure_id: str, matches: _Matcher) -> bool:
    ((_, (content,)),) = store.read_fields(
        connection, failure_list, [failure_id], ("body" if failure_list.handler is None else "event",)
    )
    return content is not None and matches(content)


def _matcher(wanted: str) -> _Matcher:
    """Return a function that says whether a body or an event contains `wanted` as a whole word."""
    digits = phone_numbers.comparable(wanted)
    if digits.isdecimal():
        number = _number_pattern(digits)
        return lambda content: number.search(_readable(content)) is not None
    # In UTF-8, and in JSON that escapes everything but ASCII.
    ways = {wanted.encode(errors="replace"), json.dumps(wanted)[1:-1].encode()}
    text = re.compile(rb"(?<![0-9A-Za-z])(?:%s)(?![0-9A-Za-z])" % b"|".join(map(re.escape, sorted(ways))))
    return lambda content: text.search(content) is not None


def _number_pattern(digits: str) -> re.Pattern[str]:
    """Return a pattern that finds a number with separators between its digits, with and without 00 before it."""
    prefix, number = (_BETWEEN.join(part) for part in (phone_numbers.INTERNATIONAL_PREFIX, digits))
    return re.compile(rf"(?<![0-9A-Za-z])(?:{prefix}{_BETWEEN})?{number}(?![0-9A-Za-z])")


def _readable(content: bytes) -> str:
    """Return a body or an event with the digits of every script in ASCII, and without what JSON escapes."""
    text = content.decode(errors="replace")
    if "\\" in text:
        text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else " ", text)
    return text if text.isascii() else _OTHER_DIGIT.sub(lambda match: str(int(match[0])), text)
