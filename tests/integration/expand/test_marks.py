"""The marks of events seen: each event is new once within CALLBACKS_DEDUPE_SECONDS, and its mark ends soon after that.

Redis is real, and a plain model in Python says what a fan-out has to answer. Time passes as `tests.marks.age` makes it.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from shared import keys
from tests import marks
from tests.redis_server import RedisServer
from workers.expand.fan_out import FanOutResult, FanOutStep
from workers.runtime import scripts
from workers.runtime.settlement import FanOutEvents

LIFETIME_SECONDS = 1000
# The clock of Redis goes on while a test runs, by less than this.
TOLERANCE_SECONDS = 60


@pytest.fixture
def client(quick_redis: RedisServer) -> Iterator[Any]:
    with quick_redis.client(decode_responses=False) as made:
        made.hset(keys.job("run"), "data", "")
        yield made


def digest(number: int) -> str:
    """Return a mark that is spread as a digest is."""
    return random.Random(number).randbytes(12).hex()


def report(number: int) -> FanOutEvents:
    return FanOutEvents("report", "1", [digest(number)], [b"[]"])


def reply(number: int, request: int) -> FanOutEvents:
    return FanOutEvents("reply", "1", [digest(number), digest(request)], [b"[]"])


def fan_out(
    client: Any, events: Sequence[FanOutEvents], *, seconds: int = LIFETIME_SECONDS, handler: str = "taker"
) -> FanOutResult:
    return FanOutStep(client).fan_out(
        run_id="run",
        settlements=[],
        mark_seconds=seconds,
        handlers=[handler],
        max_events=100,
        events=events,
        unreadable=[],
    )


def generations(client: Any) -> list[bytes]:
    """Return the values of the generations, oldest first."""
    return [value for _, value in sorted(client.hgetall(keys.SEEN).items())]


@pytest.mark.parametrize("seed", range(8))
def test_random_batches_are_new_and_repeated_as_a_plain_model_says(
    client: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill_sets_early(monkeypatch)
    chance = random.Random(seed)
    now, first_seen = 0, dict[int, int]()
    for _ in range(60):
        passed = chance.choice([0, 0, 1, 100, 499, 501, 700, 1100])
        marks.age(client, passed * 1000)
        now += passed
        batch = [chance.randrange(40 * (1 + now // 700)) for _ in range(chance.choice([1, 3, 40]))]

        repeated = set(fan_out(client, [report(number) for number in batch]).duplicates)

        for position, number in enumerate(batch):
            age = now - first_seen.get(number, -(10**9))
            if age < LIFETIME_SECONDS - TOLERANCE_SECONDS:
                assert position in repeated, (seed, number, age)
            elif age > 1.5 * LIFETIME_SECONDS + TOLERANCE_SECONDS:
                assert position not in repeated, (seed, number, age)
            if position not in repeated:
                first_seen[number] = now
    alive = client.hlen(keys.SEEN)
    assert alive <= 7
    assert {key.split(b":")[2] for key in client.scan_iter(f"{keys.SEEN}:*")} == set(client.hkeys(keys.SEEN))


def test_the_second_of_equal_events_in_one_batch_is_the_repeat(client: Any) -> None:
    result = fan_out(client, [report(1), reply(5, 6), report(2), report(1), reply(5, 6), report(2), report(3)])

    assert (result.new, result.duplicates, result.reused) == (4, (3, 4, 5), 0)


def test_a_reply_with_a_known_request_is_new_and_counted_as_reused(client: Any) -> None:
    assert fan_out(client, [reply(1, 10), reply(2, 10)]).reused == 1

    result = fan_out(client, [reply(1, 10), reply(3, 10), reply(1, 11), reply(4, 11)])

    assert (result.new, result.duplicates, result.reused) == (2, (0, 2), 2)


def test_a_small_service_has_one_set_and_a_large_one_has_more(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill_sets_early(monkeypatch)
    sets = set()
    for first in range(0, 1200, 40):
        fan_out(client, [report(number) for number in range(first, first + 40)])
        sets.add(int(generations(client)[-1].split()[1]))

    assert sets == {1, 10, 50}
    assert marks.read(client) == {bytes.fromhex(digest(number)) for number in range(1200)}
    again = fan_out(client, [report(number) for number in range(1000)])
    assert len(again.duplicates) == 1000


def test_all_sets_have_a_lifetime_and_what_has_ended_is_dropped_by_the_next_fan_out(client: Any) -> None:
    fan_out(client, [report(1)])
    for key in client.scan_iter(f"{keys.SEEN}*"):
        assert 1.5 * LIFETIME_SECONDS < client.ttl(key) <= 1.6 * LIFETIME_SECONDS
    marks.age(client, LIFETIME_SECONDS * 1500 + 1)

    fan_out(client, [report(2)])

    assert marks.read(client) == {bytes.fromhex(digest(2))}
    assert client.hlen(keys.SEEN) == 1


def test_workers_with_other_settings_or_handlers_take_turns_and_make_few_generations(client: Any) -> None:
    for number in range(20):
        fan_out(client, [report(number)], seconds=100, handler="a")
        fan_out(client, [report(100 + number)], seconds=200, handler="a")
        fan_out(client, [report(200 + number)], seconds=200, handler="b")

    assert sorted(generations(client)) == [b"100 1 a", b"200 1 a", b"200 1 b"]
    assert len(fan_out(client, [report(0), report(100), report(200)], seconds=5).duplicates) == 3


def test_however_often_the_handlers_change_the_generations_are_bounded(client: Any) -> None:
    for number in range(60):
        fan_out(client, [report(number)], handler=f"h{number}")

    assert client.hlen(keys.SEEN) == 33
    assert len(fan_out(client, [report(number) for number in range(60)]).duplicates) == 60


@pytest.mark.parametrize("wrong", ["", "x", "ab" * 11, "ab" * 13])
def test_a_mark_of_another_size_is_refused_before_anything_is_written(client: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match="24 hexadecimal digits"):
        fan_out(client, [report(1), FanOutEvents("report", "1", [wrong], [b"[]"])])

    assert marks.read(client) == set()


def _fill_sets_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a set full with 50 marks."""
    load = scripts.load

    def smaller(*names: str) -> str:
        text = load(*names)
        assert " = 32000, 10, 50" in text
        return text.replace(" = 32000, 10, 50", " = 50, 10, 50")

    monkeypatch.setattr(scripts, "load", smaller)


@pytest.mark.parametrize("handler", ["taker", "another"])
def test_a_clock_that_was_ahead_lengthens_the_life_of_no_later_mark(client: Any, handler: str) -> None:
    fan_out(client, [report(1)])
    year_ms = 366 * 86_400_000
    marks.age(client, -year_ms)

    assert not fan_out(client, [report(2)], handler=handler).duplicates

    assert fan_out(client, [report(1)], handler=handler).duplicates, "it is still known"
    assert fan_out(client, [report(2)], handler=handler).duplicates
    marks.age(client, LIFETIME_SECONDS * 1500 + TOLERANCE_SECONDS * 1000)
    assert not fan_out(client, [report(2)], handler=handler).duplicates
