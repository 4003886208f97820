"""All failures of a list that match a filter, newest first, in bounded memory: they are read while they are iterated.

Failures that come meanwhile are not included, and those that go meanwhile make none be skipped or repeated.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import redis

from workers.failures.cursor import Cursor, FailureFilter, IndexReader, Row
from workers.failures.failure import DeadLetter, DeadLetterSummary, QuarantineRow
from workers.failures.failure_list import QUARANTINE, FailureList, dead_letters_of
from workers.failures.store import FailureStore

MATCHES_ALL: Final = FailureFilter()
_ROWS_PER_READ: Final = 500
_IDS_PER_READ: Final = 5000


def iterate_rows(
    connection: redis.Redis,
    failure_list: FailureList,
    wanted: FailureFilter = MATCHES_ALL,
    *,
    ids: Sequence[str] = (),
    skip: int = 0,
) -> Iterator[Row]:
    """Yield the matching failures, of these ids if there are any, without the first `skip`. Raise redis.RedisError."""
    for page in _pages(connection, failure_list, wanted, ids=ids, skip=skip):
        yield from page


def iterate_quarantine(
    connection: redis.Redis, wanted: FailureFilter = MATCHES_ALL, *, skip: int = 0
) -> Iterator[QuarantineRow]:
    """Yield the matching callbacks in quarantine, without the first `skip`. Raise redis.RedisError."""
    yield from (
        row for row in iterate_rows(connection, QUARANTINE, wanted, skip=skip) if isinstance(row, QuarantineRow)
    )


def iterate_summaries(
    connection: redis.Redis, handler: str, wanted: FailureFilter = MATCHES_ALL, *, skip: int = 0
) -> Iterator[DeadLetterSummary]:
    """Yield a summary of each matching dead letter of a handler, without the first `skip`. Raise redis.RedisError."""
    store = FailureStore(connection)
    for page in _pages(connection, dead_letters_of(handler), wanted, skip=skip):
        yield from store.read_summaries(handler, [row.id for row in page])


def iterate_letters(
    connection: redis.Redis, handler: str, wanted: FailureFilter = MATCHES_ALL, *, ids: Sequence[str] = ()
) -> Iterator[DeadLetter | DeadLetterSummary]:
    """Yield the matching dead letters of a handler whole, of these ids if there are any. Raise redis.RedisError.

    Of one that a newer release wrote it is a summary.
    """
    store = FailureStore(connection)
    for page in _pages(connection, dead_letters_of(handler), wanted, ids=ids):
        yield from store.read_letters(handler, [row.id for row in page])


def count(connection: redis.Redis, failure_list: FailureList, wanted: FailureFilter = MATCHES_ALL) -> int:
    """Return how many failures match. Raise redis.RedisError."""
    if wanted.matches_all:
        return FailureStore(connection).count(failure_list)
    return sum(1 for _ in iterate_rows(connection, failure_list, wanted))


def _pages(
    connection: redis.Redis, failure_list: FailureList, wanted: FailureFilter, *, ids: Sequence[str] = (), skip: int = 0
) -> Iterator[Sequence[Row]]:
    reader = IndexReader(connection)
    if ids:
        yield [row for row in reader.read_named(failure_list, dict.fromkeys(ids)) if wanted.matches(row)]
        return
    cursor: Cursor | None = None
    if skip and not wanted.reads_rows:
        cursor, skip = _skip(reader, failure_list, wanted, skip), 0
    while True:
        page = reader.read_rows(failure_list, wanted, after=cursor, limit=_ROWS_PER_READ)
        if found := page.items[skip:]:
            yield found
        skip = max(skip - len(page.items), 0)
        cursor = page.next_cursor
        if cursor is None:
            return


def _skip(reader: IndexReader, failure_list: FailureList, wanted: FailureFilter, skip: int) -> Cursor | None:
    """Return the cursor after the first `skip` failures, which match by their time alone and need not be read."""
    cursor = wanted.first_cursor
    while skip and (members := reader.read_members(failure_list.index, after=cursor, limit=min(skip, _IDS_PER_READ))):
        cursor, skip = members[-1], skip - len(members)
    return cursor
