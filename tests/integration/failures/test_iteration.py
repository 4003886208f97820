"""A list of failures is iterated newest first, by a filter of errors and times, while failures come and go."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from shared import keys
from tests.integration.failures.failure_lists import die, ids, quarantined, refusing
from tests.integration.harness import RECEIVED_MS, Harness, open_harness
from tests.redis_server import RedisServer
from workers.failures import iteration
from workers.failures.cursor import Cursor, FailureFilter, IndexReader
from workers.failures.failure_list import QUARANTINE
from workers.failures.store import FailureStore

# More than are read at once.
MANY = 1100
RECEIVED = datetime.fromtimestamp(RECEIVED_MS / 1000, UTC)


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, refusing) as made:
        yield made


def fill(harness: Harness, number: int) -> list[str]:
    """Quarantine callbacks, one each millisecond; return their ids, newest first."""
    harness.accept(quarantined=[quarantined(one, at_ms=RECEIVED_MS + one) for one in range(number)])
    return ids(harness, keys.QUARANTINE)[::-1]


def listed(harness: Harness, wanted: FailureFilter = iteration.MATCHES_ALL, *, skip: int = 0) -> list[str]:
    return [row.id for row in iteration.iterate_rows(harness.connection, QUARANTINE, wanted, skip=skip)]


def after(ms: int) -> datetime:
    return RECEIVED + timedelta(milliseconds=ms)


def test_a_list_has_each_failure_once_newest_first(harness: Harness) -> None:
    newest_first = fill(harness, MANY)
    die(harness, *map(str, range(MANY)))
    dead = ids(harness, keys.dead("refusing"))[::-1]

    assert listed(harness) == newest_first
    assert listed(harness, skip=MANY - 2) == newest_first[-2:]
    assert listed(harness, skip=MANY) == []
    assert [row.id for row in iteration.iterate_quarantine(harness.connection, skip=3)] == newest_first[3:]
    assert [row.id for row in iteration.iterate_summaries(harness.connection, "refusing", skip=600)] == dead[600:]
    assert [row.id for row in iteration.iterate_letters(harness.connection, "refusing")] == dead


def test_failures_are_listed_since_and_before_a_time(harness: Harness) -> None:
    newest_first = fill(harness, 10)

    assert listed(harness, FailureFilter(since=after(7))) == newest_first[:3]
    assert listed(harness, FailureFilter(until=after(7))) == newest_first[3:]
    assert listed(harness, FailureFilter(since=after(2), until=after(7))) == newest_first[3:8]
    assert listed(harness, FailureFilter(since=after(2), until=after(7)), skip=4) == newest_first[7:8]
    assert listed(harness, FailureFilter(since=after(2), until=after(7), error="RULE"), skip=4) == newest_first[7:8]
    assert listed(harness, FailureFilter(since=after(2), until=after(7), error="none")) == []
    assert iteration.count(harness.connection, QUARANTINE, FailureFilter(until=after(4))) == 4


def test_of_named_failures_those_that_match_are_listed(harness: Harness) -> None:
    newest_first = fill(harness, 10)
    named = [newest_first[8], newest_first[1], newest_first[1], "0badc0de"]

    rows = iteration.iterate_rows(harness.connection, QUARANTINE, FailureFilter(since=after(5)), ids=named)

    assert [row.id for row in rows] == [newest_first[1]]


def test_what_comes_and_goes_meanwhile_makes_none_be_skipped_or_repeated(harness: Harness) -> None:
    newest_first = fill(harness, MANY)
    rows = iteration.iterate_rows(harness.connection, QUARANTINE)

    found = [next(rows).id for _ in range(3)]
    list(FailureStore(harness.connection).drop(QUARANTINE, newest_first[:450]))
    harness.accept(quarantined=[quarantined(MANY, at_ms=RECEIVED_MS + MANY)])
    found += [row.id for row in rows]

    assert found == newest_first


def test_a_page_of_a_time_reads_only_that_time(harness: Harness) -> None:
    newest_first = fill(harness, MANY)
    reader = IndexReader(harness.connection)
    wanted = FailureFilter(since=after(100), until=after(103))

    page = reader.read_rows(QUARANTINE, wanted, limit=50)

    assert [row.id for row in page.items] == newest_first[MANY - 103 : MANY - 100]
    assert (page.scanned, page.next_cursor) == (3, None)
    rest = reader.read_rows(QUARANTINE, wanted, after=Cursor(RECEIVED_MS + 102, newest_first[MANY - 103]), limit=50)
    assert [row.id for row in rest.items] == newest_first[MANY - 102 : MANY - 100]
