"""Events reach their handler: delivered, retried alone with backoff, split, and dead letters after the last attempt."""

import asyncio
import time
from collections.abc import Callable

import pytest

from callbacks import Reject, ReplyEvent, ReportEvent, Retry, handler
from shared import events, keys
from tests.integration.harness import HandlerTotals, Harness, due_now, open_harness, reply
from tests.integration.scripted_handlers import (
    accept_and_expand,
    fail_for,
    other,
    script,
    single,
    whole,
)
from tests.redis_server import RedisServer
from workers.deliver import prefetch

Call = Callable[[ReportEvent], None]


def test_events_are_delivered_once_in_their_order(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2", "3")

    harness.deliver(single)

    assert script.called == ["1", "2", "3"]
    assert harness.totals(single) == HandlerTotals(delivered=3)


def test_one_run_coalesces_the_jobs_behind_it(harness: Harness) -> None:
    for n in range(20):
        accept_and_expand(harness, str(n))

    harness.deliver(whole)

    assert script.calls == [["0"], [str(n) for n in range(1, 20)]], (
        "twenty jobs: one to see how fast it is, then the rest"
    )
    assert harness.totals(whole) == HandlerTotals(delivered=20)


def test_a_failing_event_waits_alone_for_its_next_attempt(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2", "3")
    script.act = fail_for("2")

    harness.deliver(single)

    assert harness.totals(single) == HandlerTotals(delivered=2, waiting=1)
    (seconds,) = due_now(harness, single)
    assert 0 < seconds <= 1.1
    ((again,),) = harness.waiting_events(single)
    assert again.message_id == "2"
    script.act = fail_for()
    harness.deliver(single)
    assert script.called == ["1", "2", "3", "2"]
    assert harness.totals(single) == HandlerTotals(delivered=3)


def test_the_backoff_grows_and_after_the_last_attempt_the_event_is_a_dead_letter(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    script.act = fail_for("2")

    harness.deliver(single)
    (first,) = due_now(harness, single)
    harness.deliver(single)
    (second,) = due_now(harness, single)
    harness.deliver(single)

    assert 0 < first <= 1.1 < second <= 4.4
    assert script.called == ["1", "2", "2", "2"]
    assert harness.totals(single) == HandlerTotals(delivered=1, dead=1)
    (letter,) = harness.dead_letters("single")
    assert letter["error"] == "RuntimeError: no 2 today"
    assert letter["attempts"] == "3"
    assert "in act" in letter["traceback"]
    assert abs(int(letter["died_ms"]) / 1000 - time.time()) < 60
    (event,) = events.decode(f"[{letter['event']}]")
    assert event.raw["message_id"] == "2"
    assert 0 < harness.connection.ttl(keys.dead_letter("single", event.id)) <= keys.FAILURE_EXPIRY_SECONDS


def test_a_handler_chooses_when_the_retry_is_due(harness: Harness) -> None:
    accept_and_expand(harness, "1")

    def act(event: ReportEvent) -> None:
        raise Retry(after_seconds=900, reason="closed for lunch")

    script.act = act

    harness.deliver(single)
    (seconds,) = due_now(harness, single)
    assert 890 < seconds <= 900
    harness.deliver(single)
    due_now(harness, single)
    harness.deliver(single)

    assert harness.totals(single) == HandlerTotals(dead=1), "it counts as an attempt"
    assert harness.dead_letters("single")[0]["error"] == "closed for lunch"


def test_a_rejected_event_is_a_dead_letter_at_once(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")

    def act(event: ReportEvent) -> None:
        if event.message_id == "1":
            raise Reject("never")

    script.act = act

    harness.deliver(single)

    assert harness.totals(single) == HandlerTotals(delivered=1, dead=1)
    (letter,) = harness.dead_letters("single")
    assert (letter["error"], letter["attempts"], letter["traceback"]) == ("never", "1", "")


def test_a_batch_that_fails_is_split_and_only_the_failing_event_is_retried(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2", "3")
    script.act = fail_for("2")

    harness.deliver(whole)

    assert script.calls == [["1", "2", "3"], ["1"], ["2"], ["3"]]
    assert harness.totals(whole) == HandlerTotals(delivered=2, waiting=1)


def test_an_event_that_failed_before_does_not_fail_the_next_batch(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch.Prefetcher, "_prefetch_count", lambda _self: prefetch.MAX_ITEMS)
    accept_and_expand(harness, "1")
    script.act = fail_for("1")
    harness.deliver(whole)
    due_now(harness, whole)
    accept_and_expand(harness, "2", "3")
    script.calls.clear()

    harness.deliver(whole)

    assert script.calls == [["2", "3"], ["1"]]
    assert harness.totals(whole) == HandlerTotals(delivered=2, waiting=1)


def test_the_failures_of_one_handler_change_nothing_for_another(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2", "3")
    before = harness.connection.lrange(keys.rq_queue("deliver-other"), 0, -1)
    script.act = fail_for("1", "2", "3")

    harness.deliver(single)
    due_now(harness, single)
    harness.deliver(single)
    due_now(harness, single)
    harness.deliver(single)

    assert harness.totals(single) == HandlerTotals(dead=3)
    assert harness.connection.lrange(keys.rq_queue("deliver-other"), 0, -1) == before
    assert harness.totals(other) == HandlerTotals(waiting=3)
    harness.deliver(other)
    assert harness.totals(other) == HandlerTotals(delivered=3)
    assert harness.totals(single) == HandlerTotals(dead=3)
    assert not harness.dead_letters("other")


def test_an_async_handler_works_on_as_many_events_at_once_as_declared(quick_redis: RedisServer) -> None:
    at_once, max_at_once, called = 0, 0, []

    @handler(ReplyEvent, concurrency=4)
    async def chat(event: ReplyEvent) -> None:
        nonlocal at_once, max_at_once
        at_once += 1
        max_at_once = max(max_at_once, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        called.append(event.reply_message_id or "")

    with open_harness(quick_redis.url, chat) as harness:
        harness.accept(*(reply(f"m{n}", f"q{n}") for n in range(20)))
        harness.expand()

        harness.deliver(chat)

        assert max_at_once == 4
        assert sorted(called) == sorted(f"m{n}" for n in range(20))
        assert harness.totals(chat) == HandlerTotals(delivered=20)
        assert harness.leftover_keys() == set()


def test_the_time_from_the_post_to_the_delivery_is_counted_for_each_event(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2", "3")
    script.act = fail_for("2")

    harness.deliver(single)

    counted = {name: number for name, number in harness.metrics.snapshot().items() if name.startswith("delivery|")}
    assert sum(number for name, number in counted.items() if "|le|" in name) == 2
    assert counted.keys() >= {"delivery|single|sum"}
