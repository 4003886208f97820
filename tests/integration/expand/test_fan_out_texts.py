"""Events reach Redis in texts of up to a hundred: of each text the repeats are cut out, and the jobs have the rest."""

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from shared import keys, live, queue_jobs, queues
from tests.redis_server import RedisServer
from workers.expand.fan_out import FanOutResult, FanOutStep
from workers.runtime.settlement import FanOutEvents

MAX_EVENTS = 10
HANDLERS = ("first", "second", "third")


@pytest.fixture
def client(quick_redis: RedisServer) -> Iterator[Any]:
    with quick_redis.client(decode_responses=False) as made:
        made.hset(keys.job("run"), "data", "")
        yield made


def event(number: int, mask: str) -> FanOutEvents:
    """Return an event whose JSON is its number and a text of a length of its own, with what a text is cut at."""
    json = msgspec.json.encode([number, '"],["ü,' * random.Random(number).randrange(9)])
    return FanOutEvents("report", mask, [random.Random(number).randbytes(12).hex()], [json])


def fan_out(client: Any, events: list[FanOutEvents]) -> FanOutResult:
    return FanOutStep(client).fan_out(
        run_id="run",
        settlements=[],
        mark_seconds=1000,
        handlers=HANDLERS,
        max_events=MAX_EVENTS,
        events=events,
        unreadable=[],
    )


def jobs_of(client: Any, handler: str) -> list[list[int]]:
    """Return the numbers of the events in each job that waits for the handler."""
    ids = queue_jobs.list_waiting(client, queues.delivery_queue(handler), 0, -1)
    jobs = queue_jobs.read_stored(client, ids)
    return [[msgspec.json.decode(each)[0] for each in job.arguments()[3]] for job in jobs]


@pytest.mark.parametrize("mask", ["100", "010", "101", "111", "000", "010#7"])
@pytest.mark.parametrize(
    "seen",
    [[], [0], [9], [10], [0, 9, 10, 19, 24], range(10), range(25), range(1, 24)],
    ids=["none", "first", "last", "second text", "ends", "a whole text", "all", "all but the ends"],
)
def test_the_new_events_of_each_text_are_enqueued_in_their_order(client: Any, mask: str, seen: list[int]) -> None:
    fan_out(client, [event(number, "000") for number in seen])

    result = fan_out(client, [event(number, mask) for number in range(25)])

    left = [number for number in range(25) if number not in seen]
    assert (result.new, result.duplicates) == (len(left), tuple(seen))
    for handler, bit in zip(HANDLERS, mask, strict=False):
        jobs = jobs_of(client, handler)
        assert [number for job in jobs for number in job] == (left if bit == "1" else [])
        assert all(0 < len(job) <= MAX_EVENTS for job in jobs)


def test_a_repeat_in_the_same_step_is_cut_out_whatever_its_mask_is(client: Any) -> None:
    events = [event(1, "100"), event(2, "100"), event(1, "100"), event(3, "110"), event(2, "110"), event(4, "001")]

    result = fan_out(client, events)

    assert (result.new, result.duplicates) == (4, (2, 4))
    assert {name: sorted(number for job in jobs_of(client, name) for number in job) for name in HANDLERS} == {
        "first": [1, 2, 3],
        "second": [3],
        "third": [4],
    }


def test_few_events_of_many_kinds_share_a_job(client: Any) -> None:
    fan_out(client, [event(number, f"100#{number}") for number in range(25)])

    assert [len(job) for job in jobs_of(client, "first")] == [10, 10, 5]


@pytest.mark.parametrize("seen", [[], [1]])
def test_who_listens_to_the_live_events_gets_each_new_one(client: Any, seen: list[int]) -> None:
    fan_out(client, [event(number, "000") for number in seen])
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(live.channel(client))
        client.ping()
        listener.get_message(timeout=10)  # the answer to the subscription

        fan_out(client, [event(0, "000"), event(1, "100"), event(2, "110")])

        message = None
        while message is None:
            message = listener.get_message(timeout=10)
    published = msgspec.json.decode(message["data"])[2]
    assert sorted(number for number, _ in published) == [number for number in range(3) if number not in seen]
