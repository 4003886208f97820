"""Paging through a failure list: newest first, each failure once, whatever changes meanwhile, in bounded work."""

from collections.abc import Iterator

import pytest

from shared import keys
from tests.integration.failures.failure_lists import die, ids, quarantined, refusing
from tests.integration.harness import RECEIVED_MS, Harness, open_harness
from tests.redis_server import RedisServer
from workers.failures.cursor import Cursor, FailureFilter, IndexReader
from workers.failures.failure_list import QUARANTINE, dead_letters_of

ALL = FailureFilter()


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, refusing) as made:
        yield made


@pytest.fixture
def reader(harness: Harness) -> IndexReader:
    return IndexReader(harness.connection)


def all_of(reader: IndexReader, failure_filter: FailureFilter = ALL, *, limit: int = 50) -> list[str]:
    found: list[str] = []
    cursor: Cursor | None = None
    while True:
        part = reader.read_rows(QUARANTINE, failure_filter, after=cursor, limit=limit, max_scanned=100)
        found += [row.id for row in part.items]
        cursor = part.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("spread", [1, 0], ids=["at different times", "all at one time"])
def test_pages_give_each_entry_once_newest_first(harness: Harness, reader: IndexReader, spread: int) -> None:
    harness.accept(quarantined=[quarantined(number, at_ms=RECEIVED_MS + spread * number) for number in range(230)])

    assert all_of(reader) == ids(harness, keys.QUARANTINE)[::-1]


def test_the_last_page_says_that_nothing_comes_after_it(harness: Harness, reader: IndexReader) -> None:
    harness.accept(quarantined=[quarantined(number) for number in range(20)])

    assert reader.read_rows(QUARANTINE, ALL, limit=20).next_cursor is None
    assert reader.read_rows(QUARANTINE, ALL, limit=19).next_cursor is not None
    assert reader.read_rows(dead_letters_of("nobody"), ALL, limit=19).items == ()


@pytest.mark.parametrize("spread", [1, 0], ids=["at different times", "all at one time"])
def test_a_place_stays_what_it_is_while_entries_come_and_go(harness: Harness, reader: IndexReader, spread: int) -> None:
    harness.accept(quarantined=[quarantined(number, at_ms=RECEIVED_MS + spread * number) for number in range(40)])
    newest_first = ids(harness, keys.QUARANTINE)[::-1]
    cursor = reader.read_rows(QUARANTINE, ALL, limit=10).next_cursor

    # What was shown is dropped, the place itself among it, and newer ones come in.
    harness.connection.zrem(keys.QUARANTINE, *newest_first[5:10])
    harness.accept(quarantined=[quarantined(number, at_ms=RECEIVED_MS + 1000) for number in range(7)])

    assert cursor is not None
    assert [row.id for row in reader.read_rows(QUARANTINE, ALL, after=cursor, limit=50).items] == newest_first[10:]
    assert Cursor.parse(cursor.text) == cursor


def test_a_place_of_an_entry_that_is_there_anew_is_where_it_was(harness: Harness, reader: IndexReader) -> None:
    harness.accept(quarantined=[quarantined(number, at_ms=RECEIVED_MS + number) for number in range(10)])
    newest_first = ids(harness, keys.QUARANTINE)[::-1]
    cursor = reader.read_rows(QUARANTINE, ALL, limit=5).next_cursor

    harness.connection.zadd(keys.QUARANTINE, {newest_first[4]: RECEIVED_MS + 9999})

    assert [row.id for row in reader.read_rows(QUARANTINE, ALL, after=cursor, limit=50).items] == newest_first[5:]


def test_before_a_time_is_before_all_entries_of_it(harness: Harness, reader: IndexReader) -> None:
    harness.accept(quarantined=[quarantined(number, at_ms=RECEIVED_MS + number // 3) for number in range(9)])

    part = reader.read_rows(QUARANTINE, ALL, after=Cursor.before(RECEIVED_MS + 1), limit=50)

    assert [row.id for row in part.items] == ids(harness, keys.QUARANTINE)[5::-1]


def test_entries_are_wanted_by_error_source_and_kind(harness: Harness, reader: IndexReader) -> None:
    harness.accept(quarantined=[quarantined(1), quarantined(2)])
    strange, other = ids(harness, keys.QUARANTINE)
    harness.connection.hset(
        keys.quarantined(strange), mapping={"error": "Expected `array` - at `$.DATA`", "source": "two"}
    )
    harness.connection.hset(keys.quarantined(other), mapping={"kind": "reply"})

    assert all_of(reader, FailureFilter(error="expected `ARRAY` - at `$.data`")) == [strange]
    assert all_of(reader, FailureFilter(source="two")) == [strange]
    assert all_of(reader, FailureFilter(kind="reply")) == [other]
    assert all_of(reader, FailureFilter(kind="unknown")) == [strange]
    assert all_of(reader, FailureFilter(kind="unknown", source="gw")) == []


def test_dead_letters_are_wanted_by_their_error(harness: Harness, reader: IndexReader) -> None:
    die(harness, "1", "2")
    strange, other = ids(harness, keys.dead("refusing"))
    harness.connection.hset(keys.dead_letter("refusing", strange), "error", "TimeoutError: of a service")

    found = [
        reader.read_rows(dead_letters_of("refusing"), failure_filter, limit=9).items
        for failure_filter in (FailureFilter(error="timeout"), ALL)
    ]

    assert [[row.id for row in rows] for rows in found] == [[strange], [other, strange]]


def test_what_redis_has_let_go_is_passed_over(harness: Harness, reader: IndexReader) -> None:
    harness.accept(quarantined=[quarantined(number) for number in range(5)])
    gone = ids(harness, keys.QUARANTINE)[2]
    harness.connection.delete(keys.quarantined(gone))

    assert all_of(reader, limit=2) == [one for one in ids(harness, keys.QUARANTINE)[::-1] if one != gone]


def test_a_page_of_many_costs_what_a_page_of_few_does(harness: Harness, reader: IndexReader) -> None:
    reader.read_rows(QUARANTINE, ALL, limit=50)  # which loads the script
    costs = []
    for number in (200, 20_000):
        fill(harness, number)
        first = reader.read_rows(QUARANTINE, ALL, limit=50)
        before = spent(harness)
        reader.read_rows(QUARANTINE, ALL, limit=50)
        reader.read_rows(QUARANTINE, ALL, after=first.next_cursor, limit=50)
        costs.append(tuple(now - then for now, then in zip(spent(harness), before, strict=True)))

    (few_calls, few_bytes), (many_calls, many_bytes) = costs
    assert many_calls == few_calls
    assert many_bytes < few_bytes * 1.1


def test_a_filter_that_lets_nothing_through_looks_at_a_bounded_number(harness: Harness, reader: IndexReader) -> None:
    fill(harness, 3000)

    part = reader.read_rows(QUARANTINE, FailureFilter(error="never"), limit=50, max_scanned=1000)
    assert (part.items, part.scanned) == ((), 1000)
    rest = reader.read_rows(
        QUARANTINE, FailureFilter(error="never"), after=part.next_cursor, limit=50, max_scanned=9999
    )
    assert (rest.scanned, rest.next_cursor) == (2000, None)


@pytest.mark.parametrize("text", ["", "x", "1-", "-a", "1-a b", "1" * 16 + "-a", "1-" + "a" * 65])
def test_what_is_not_a_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        Cursor.parse(text)


def fill(harness: Harness, number: int) -> None:
    """Fill the quarantine up to a number, straight in Redis."""
    state = harness.connection.zcard(keys.QUARANTINE)
    for first in range(state, number, 1000):
        entries = [quarantined(each, at_ms=RECEIVED_MS + each) for each in range(first, min(first + 1000, number))]
        harness.accept(quarantined=entries)


def spent(harness: Harness) -> tuple[int, int]:
    """Tell how many commands Redis has carried out, those of scripts too, and how many bytes it has answered."""
    calls = sum(one["calls"] for name, one in harness.connection.info("commandstats").items() if "info" not in name)
    return calls, harness.connection.info("stats")["total_net_output_bytes"]
