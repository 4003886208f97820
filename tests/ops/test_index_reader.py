"""Going through a shelf: newest first, each entry once, whatever comes and goes meanwhile, in bounded work."""

from collections.abc import Iterator

import pytest

from shared import keys
from tests.integration.shelves import die, ids, quarantined, refusing
from tests.integration.workbench import RECEIVED_MS, Bench, _quick_server, bench, quick_redis  # noqa: F401
from tests.redis_server import RedisServer
from workers.failures.cursor import Place, Sieve, Walk
from workers.failures.failure_list import QUARANTINE, dead_letters_of

ALL = Sieve()


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    with bench(quick_redis.url, refusing) as made:
        yield made


@pytest.fixture
def walk(b: Bench) -> Walk:
    return Walk(b.connection)


def all_of(walk: Walk, sieve: Sieve = ALL, *, most: int = 50) -> list[str]:
    found: list[str] = []
    place: Place | None = None
    while True:
        part = walk.rows(QUARANTINE, sieve, after=place, most=most, most_looked=100)
        found += [row.id for row in part.found]
        place = part.place
        if place is None:
            return found


@pytest.mark.parametrize("spread", [1, 0], ids=["at different times", "all at one time"])
def test_pages_give_each_entry_once_newest_first(b: Bench, walk: Walk, spread: int) -> None:
    b.keep(quarantined=[quarantined(number, at_ms=RECEIVED_MS + spread * number) for number in range(230)])

    assert all_of(walk) == ids(b, keys.QUARANTINE)[::-1]


def test_the_last_page_says_that_nothing_comes_after_it(b: Bench, walk: Walk) -> None:
    b.keep(quarantined=[quarantined(number) for number in range(20)])

    assert walk.rows(QUARANTINE, ALL, most=20).place is None
    assert walk.rows(QUARANTINE, ALL, most=19).place is not None
    assert walk.rows(dead_letters_of("nobody"), ALL, most=19).found == ()


@pytest.mark.parametrize("spread", [1, 0], ids=["at different times", "all at one time"])
def test_a_place_stays_what_it_is_while_entries_come_and_go(b: Bench, walk: Walk, spread: int) -> None:
    b.keep(quarantined=[quarantined(number, at_ms=RECEIVED_MS + spread * number) for number in range(40)])
    newest_first = ids(b, keys.QUARANTINE)[::-1]
    place = walk.rows(QUARANTINE, ALL, most=10).place

    # What was shown is dropped, the place itself among it, and newer ones come in.
    b.connection.zrem(keys.QUARANTINE, *newest_first[5:10])
    b.keep(quarantined=[quarantined(number, at_ms=RECEIVED_MS + 1000) for number in range(7)])

    assert place is not None
    assert [row.id for row in walk.rows(QUARANTINE, ALL, after=place, most=50).found] == newest_first[10:]
    assert Place.of(place.text) == place


def test_a_place_of_an_entry_that_is_there_anew_is_where_it_was(b: Bench, walk: Walk) -> None:
    b.keep(quarantined=[quarantined(number, at_ms=RECEIVED_MS + number) for number in range(10)])
    newest_first = ids(b, keys.QUARANTINE)[::-1]
    place = walk.rows(QUARANTINE, ALL, most=5).place

    b.connection.zadd(keys.QUARANTINE, {newest_first[4]: RECEIVED_MS + 9999})

    assert [row.id for row in walk.rows(QUARANTINE, ALL, after=place, most=50).found] == newest_first[5:]


def test_before_a_time_is_before_all_entries_of_it(b: Bench, walk: Walk) -> None:
    b.keep(quarantined=[quarantined(number, at_ms=RECEIVED_MS + number // 3) for number in range(9)])

    part = walk.rows(QUARANTINE, ALL, after=Place.before(RECEIVED_MS + 1), most=50)

    assert [row.id for row in part.found] == ids(b, keys.QUARANTINE)[5::-1]


def test_entries_are_wanted_by_error_source_and_kind(b: Bench, walk: Walk) -> None:
    b.keep(quarantined=[quarantined(1), quarantined(2)])
    strange, other = ids(b, keys.QUARANTINE)
    b.connection.hset(keys.quarantined(strange), mapping={"error": "Expected `array` - at `$.DATA`", "source": "two"})
    b.connection.hset(keys.quarantined(other), mapping={"kind": "reply"})

    assert all_of(walk, Sieve(error="expected `ARRAY` - at `$.data`")) == [strange]
    assert all_of(walk, Sieve(source="two")) == [strange]
    assert all_of(walk, Sieve(kind="reply")) == [other]
    assert all_of(walk, Sieve(kind="unknown")) == [strange]
    assert all_of(walk, Sieve(kind="unknown", source="gw")) == []


def test_dead_letters_are_wanted_by_their_error(b: Bench, walk: Walk) -> None:
    die(b, "1", "2")
    strange, other = ids(b, keys.dead("refusing"))
    b.connection.hset(keys.dead_letter("refusing", strange), "error", "TimeoutError: of a service")

    found = [walk.rows(dead_letters_of("refusing"), sieve, most=9).found for sieve in (Sieve(error="timeout"), ALL)]

    assert [[row.id for row in rows] for rows in found] == [[strange], [other, strange]]


def test_what_redis_has_let_go_is_passed_over(b: Bench, walk: Walk) -> None:
    b.keep(quarantined=[quarantined(number) for number in range(5)])
    gone = ids(b, keys.QUARANTINE)[2]
    b.connection.delete(keys.quarantined(gone))

    assert all_of(walk, most=2) == [one for one in ids(b, keys.QUARANTINE)[::-1] if one != gone]


def test_a_page_of_many_costs_what_a_page_of_few_does(b: Bench, walk: Walk) -> None:
    walk.rows(QUARANTINE, ALL, most=50)  # which loads the script
    costs = []
    for number in (200, 20_000):
        fill(b, number)
        first = walk.rows(QUARANTINE, ALL, most=50)
        before = spent(b)
        walk.rows(QUARANTINE, ALL, most=50)
        walk.rows(QUARANTINE, ALL, after=first.place, most=50)
        costs.append(tuple(now - then for now, then in zip(spent(b), before, strict=True)))

    (few_calls, few_bytes), (many_calls, many_bytes) = costs
    assert many_calls == few_calls
    assert many_bytes < few_bytes * 1.1


def test_a_filter_that_lets_nothing_through_looks_at_a_bounded_number(b: Bench, walk: Walk) -> None:
    fill(b, 3000)

    part = walk.rows(QUARANTINE, Sieve(error="never"), most=50, most_looked=1000)
    assert (part.found, part.looked) == ((), 1000)
    rest = walk.rows(QUARANTINE, Sieve(error="never"), after=part.place, most=50, most_looked=9999)
    assert (rest.looked, rest.place) == (2000, None)


@pytest.mark.parametrize("text", ["", "x", "1-", "-a", "1-a b", "1" * 16 + "-a", "1-" + "a" * 65])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        Place.of(text)


def fill(b: Bench, number: int) -> None:
    """Fill the quarantine up to a number, straight in Redis."""
    standing = b.connection.zcard(keys.QUARANTINE)
    for first in range(standing, number, 1000):
        entries = [quarantined(each, at_ms=RECEIVED_MS + each) for each in range(first, min(first + 1000, number))]
        b.keep(quarantined=entries)


def spent(b: Bench) -> tuple[int, int]:
    """Tell how many commands Redis has carried out, those of scripts too, and how many bytes it has answered."""
    calls = sum(one["calls"] for name, one in b.connection.info("commandstats").items() if "info" not in name)
    return calls, b.connection.info("stats")["total_net_output_bytes"]
