"""Events reach their handler: done, tried again alone with back-off, taken apart, and set aside at the end."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from callbacks import Reject, ReplyEvent, ReportEvent, Retry, handler
from shared import events, keys, queues
from tests.integration.told import at_handler, brought, fail_at, other, single, told, whole
from tests.integration.workbench import Bench, _quick_server, bench, declared, quick_redis, record, reply, statuses  # noqa: F401
from tests.redis_server import RedisServer
from workers.deliver import prefetch

Call = Callable[[ReportEvent], None]


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    told.__init__()  # type: ignore[misc]


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    with bench(quick_redis.url, single, other, whole) as made:
        yield made


def due_now(b: Bench, function: Callable[..., Any]) -> list[float]:
    """Let the time of what is to be tried again come; give for each the seconds that it was away."""
    queue = queues.delivery_queue(declared(function).name)
    scheduled = b.connection.zrange(keys.rq_scheduled(queue), 0, -1, withscores=True)
    for job_id, _ in scheduled:
        b.connection.zadd(keys.rq_scheduled(queue), {job_id: time.time() - 1})
    keeper = b.maintenance(function)
    keeper.tick([])
    keeper.close()
    return [due - time.time() for _, due in scheduled]


def test_events_are_delivered_once_in_their_order(b: Bench) -> None:
    brought(b, "1", "2", "3")

    b.deliver(single)

    assert told.called == ["1", "2", "3"]
    assert at_handler(b, single) == (3, 0, 0, 0)


def test_one_run_takes_along_the_deliveries_behind_it(b: Bench) -> None:
    for n in range(20):
        brought(b, str(n))

    b.deliver(whole)

    assert told.calls == [["0"], [str(n) for n in range(1, 20)]], (
        "twenty jobs: one to see how fast it is, then the rest"
    )
    assert at_handler(b, whole) == (20, 0, 0, 0)


def test_a_failing_event_leaves_its_siblings_and_waits_alone_for_its_next_attempt(b: Bench) -> None:
    brought(b, "1", "2", "3")
    told.act = fail_at("2")

    b.deliver(single)

    assert at_handler(b, single) == (2, 0, 1, 0)
    (seconds,) = due_now(b, single)
    assert 0 < seconds <= 1.1
    ((again,),) = b.waiting_events(single)
    assert again[5] == "2"
    told.act = fail_at()
    b.deliver(single)
    assert told.called == ["1", "2", "3", "2"]
    assert at_handler(b, single) == (3, 0, 0, 0)


def test_the_pauses_grow_and_after_the_last_attempt_the_event_is_a_dead_letter(b: Bench) -> None:
    brought(b, "1", "2")
    told.act = fail_at("2")

    b.deliver(single)
    (first,) = due_now(b, single)
    b.deliver(single)
    (second,) = due_now(b, single)
    b.deliver(single)

    assert 0 < first <= 1.1 < second <= 4.4
    assert told.called == ["1", "2", "2", "2"]
    assert at_handler(b, single) == (1, 1, 0, 0)
    (letter,) = b.dead_letters("single")
    assert letter["error"] == "RuntimeError: no 2 today"
    assert letter["attempts"] == "3"
    assert "in act" in letter["traceback"]
    assert abs(int(letter["died_ms"]) / 1000 - time.time()) < 60
    (event,) = events.decode(f"[{letter['event']}]")
    assert event.raw["message_id"] == "2"
    assert 0 < b.connection.ttl(keys.dead_letter("single", event.id)) <= keys.FAILURE_EXPIRY_SECONDS


def test_a_handler_that_asks_for_time_gets_it(b: Bench) -> None:
    brought(b, "1")

    def act(event: ReportEvent) -> None:
        raise Retry(after_seconds=900, reason="closed for lunch")

    told.act = act

    b.deliver(single)
    (seconds,) = due_now(b, single)
    assert 890 < seconds <= 900
    b.deliver(single)
    due_now(b, single)
    b.deliver(single)

    assert at_handler(b, single) == (0, 1, 0, 0), "it counts as an attempt"
    assert b.dead_letters("single")[0]["error"] == "closed for lunch"


def test_a_rejected_event_is_a_dead_letter_at_once(b: Bench) -> None:
    brought(b, "1", "2")

    def act(event: ReportEvent) -> None:
        if event.message_id == "1":
            raise Reject("never")

    told.act = act

    b.deliver(single)

    assert at_handler(b, single) == (1, 1, 0, 0)
    (letter,) = b.dead_letters("single")
    assert (letter["error"], letter["attempts"], letter["traceback"]) == ("never", "1", "")


def test_a_batch_that_fails_is_taken_apart_and_only_the_failing_event_is_tried_again(b: Bench) -> None:
    brought(b, "1", "2", "3")
    told.act = fail_at("2")

    b.deliver(whole)

    assert told.calls == [["1", "2", "3"], ["1"], ["2"], ["3"]]
    assert at_handler(b, whole) == (2, 0, 1, 0)


def test_an_event_that_failed_before_does_not_fail_the_next_batch(b: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch.Prefetcher, "_prefetch_count", lambda _self: prefetch.MAX_ITEMS)
    brought(b, "1")
    told.act = fail_at("1")
    b.deliver(whole)
    due_now(b, whole)
    brought(b, "2", "3")
    told.calls.clear()

    b.deliver(whole)

    assert told.calls == [["2", "3"], ["1"]]
    assert at_handler(b, whole) == (2, 0, 1, 0)


def test_the_trouble_of_one_handler_changes_nothing_for_another(b: Bench) -> None:
    brought(b, "1", "2", "3")
    before = b.connection.lrange(keys.rq_queue("deliver-other"), 0, -1)
    told.act = fail_at("1", "2", "3")

    b.deliver(single)
    due_now(b, single)
    b.deliver(single)
    due_now(b, single)
    b.deliver(single)

    assert at_handler(b, single) == (0, 3, 0, 0)
    assert b.connection.lrange(keys.rq_queue("deliver-other"), 0, -1) == before
    assert at_handler(b, other) == (0, 0, 3, 0)
    b.deliver(other)
    assert at_handler(b, other) == (3, 0, 0, 0)
    assert at_handler(b, single) == (0, 3, 0, 0)
    assert not b.dead_letters("other")


def test_an_async_handler_works_on_as_many_events_at_once_as_it_said(quick_redis: RedisServer) -> None:  # noqa: F811
    at_once, most, called = 0, 0, []

    @handler(ReplyEvent, concurrency=4)
    async def chat(event: ReplyEvent) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        called.append(event.reply_message_id or "")

    with bench(quick_redis.url, chat) as b:
        b.keep(*(reply(f"m{n}", f"q{n}") for n in range(20)))
        b.expand()

        b.deliver(chat)

        assert most == 4
        assert sorted(called) == sorted(f"m{n}" for n in range(20))
        assert at_handler(b, chat) == (20, 0, 0, 0)
        assert b.leftovers() == set()
