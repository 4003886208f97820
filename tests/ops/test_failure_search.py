"""Searching the failures for a message, a bounded part at a time, each failure once."""

import json
from collections.abc import Iterator

import pytest

from shared import keys
from tests.integration.failures.failure_lists import die, ids, quarantined, refusing
from tests.integration.harness import RECEIVED_MS, Harness, open_harness
from tests.redis_server import RedisServer
from workers.failures import search
from workers.failures.search import SearchCursor, SearchPage


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, refusing) as made:
        yield made


def found(page: SearchPage) -> list[str]:
    return [f"{hit.failure_list.name} {hit.row.id}" for hit in page.hits]


def test_an_id_is_found_in_a_dead_letter_and_in_a_quarantined_body(harness: Harness) -> None:
    die(harness, "14466445287300014003", "14466445287300014004")
    harness.accept(quarantined=[quarantined(14466445287300014003), quarantined(2)])
    letters = {
        harness.connection.hget(keys.dead_letter("refusing", each), "event"): each
        for each in ids(harness, "cb:dead:refusing")
    }
    (letter,) = (each for event, each in letters.items() if b"14466445287300014003" in event)
    bodies = [
        one
        for one in ids(harness, keys.QUARANTINE)
        if b"4003" in harness.connection.hget(keys.quarantined(one), "body")
    ]

    page = search.search(harness.connection, "14466445287300014003")

    assert found(page) == [f"dead:refusing {letter}", f"quarantine {bodies[0]}"]
    assert (page.scanned, page.next_cursor) == (4, None)


def test_only_the_whole_of_an_id_is_a_hit(harness: Harness) -> None:
    harness.accept(quarantined=[quarantined(35699000001), quarantined(1235699000001), quarantined(356990000019)])

    assert len(search.search(harness.connection, "5699000001").hits) == 0
    assert len(search.search(harness.connection, "1235699000001").hits) == 1
    assert len(search.search(harness.connection, "message_id").hits) == 3


@pytest.mark.parametrize(
    "body", [json.dumps, lambda value: json.dumps(value, ensure_ascii=False)], ids=["\\u", "UTF-8"]
)
def test_any_text_is_found_however_the_body_spells_it(harness: Harness, body: object) -> None:
    assert callable(body)
    harness.accept(quarantined=[quarantined(1, body=body({"data": ["früh.ling (50%) 🌱"]}).encode())])

    assert len(search.search(harness.connection, "früh.ling (50%) 🌱").hits) == 1
    assert len(search.search(harness.connection, "früh ling (50%) 🌱").hits) == 0


@pytest.mark.parametrize("number", ["+43 664 1234567", "0043(664)1234567", "436641234567"])
def test_a_number_is_found_in_any_spelling_and_a_name_as_it_is(harness: Harness, number: str) -> None:
    spellings = [
        "436641234567",
        "+43(664)1234567",
        "0043 664/123-45-67",
        "+43\u00a06641234567",
        "٤٣٦٦٤١٢٣٤٥٦٧",
        "43\t664 1234567",
    ]
    bodies = [json.dumps({"to": spelling}, ensure_ascii=escaped) for spelling in spellings for escaped in (True, False)]
    bodies += [r'{"to":"0043 664\/1234567"}', '{"to":436641234567}']
    others = ['{"to": "06641234567"}', '{"to": [43, 6641234567]}', '{"to": "1436641234567"}', '{"to": "ACME24"}']
    harness.accept(
        quarantined=[
            quarantined(1, body=body.encode(), at_ms=RECEIVED_MS + position)
            for position, body in enumerate((*bodies, *others))
        ],
    )

    assert len(search.search(harness.connection, number).hits) == len(bodies)
    assert len(search.search(harness.connection, "ACME24").hits) == 1
    assert len(search.search(harness.connection, "24").hits) == 0


def test_it_goes_on_where_it_was_and_looks_at_each_entry_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_FAILURES", 7)
    die(harness, *map(str, range(10)))
    harness.accept(quarantined=[quarantined(99, at_ms=RECEIVED_MS + number) for number in range(10)])

    scanned, hits, cursor, times = 0, list[str](), None, 0
    while True:
        page = search.search(harness.connection, "35699000001", start=cursor)
        assert page.scanned <= 7
        scanned, hits, times = scanned + page.scanned, hits + found(page), times + 1
        if page.next_cursor is None:
            break
        cursor = SearchCursor.parse(page.next_cursor.text)

    assert (scanned, times, len(set(hits))) == (20, 3, 20)


def test_bodies_are_read_within_bounds_and_one_that_is_larger_alone(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_BYTES", 250_000)
    large = [quarantined(1, body=b"x" * 100_000, at_ms=RECEIVED_MS + number) for number in range(5)]
    harness.accept(quarantined=[*large, quarantined(2, body=b"x" * 900_000, at_ms=RECEIVED_MS - 1)])

    scanned, cursor = [], None
    while True:
        page = search.search(harness.connection, "35699000001", start=cursor)
        scanned.append(page.scanned)
        cursor = page.next_cursor
        if cursor is None:
            break

    assert scanned == [2, 2, 1, 1]


def test_a_failure_list_that_is_gone_begins_anew(harness: Harness) -> None:
    harness.accept(quarantined=[quarantined(1)])

    assert search.search(harness.connection, "35699000001", start=SearchCursor("dead:gone")).scanned == 1
