"""A handler whose target is unavailable: its queue waits, no attempt is lost, one event is tried first, sums agree."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from callbacks import Pause, Reject, ReplyEvent, ReportEvent, Retry, handler
from shared import events, keys, queue_jobs, queues
from tests.integration.harness import HandlerTotals, Harness, declaration_of, open_harness, reply, statuses
from tests.integration.scripted_handlers import accept_and_expand, other, script, single, whole
from tests.redis_server import RedisServer
from workers.admin import queue_state
from workers.deliver import prefetch
from workers.runtime import pause

Act = Callable[[ReportEvent], Any]


def away(event: ReportEvent) -> None:
    raise Pause(600, "moving house")


def away_from(message_id: str) -> Act:
    def act(event: ReportEvent) -> None:
        if int(event.message_id) >= int(message_id):
            raise Pause(600, "moving house")

    return act


def rejecting(event: ReportEvent) -> None:
    raise Reject("not this one")


def over(harness: Harness, function: Callable[..., Any] = single) -> None:
    """Make the time of the pause be over."""
    key = keys.paused(declaration_of(function).name)
    assert harness.connection.hset(key, "until_ms", 1) == 0


def state(harness: Harness, function: Callable[..., Any] = single) -> pause.PauseState | None:
    return pause.read_state(harness.connection, declaration_of(function).name)


def unburnt(harness: Harness, function: Callable[..., Any] = single) -> bool:
    """Return whether the handler's jobs wait in its queue, at their first attempt, without a death."""
    queue = queues.delivery_queue(declaration_of(function).name)
    jobs = harness.waiting_jobs(queue)
    return (
        not harness.connection.zcard(keys.rq_started(queue))
        and not harness.connection.zcard(keys.rq_scheduled(queue))
        and not harness.connection.keys(f"{keys.COALESCED_PREFIX}*")
        and all(harness.connection.hget(keys.job(job), "deaths") is None for job in jobs)
        and all(queues.parse_arguments(harness.connection.hget(keys.job(job), "data"))[2] == 1 for job in jobs)
        and all(harness.connection.hget(keys.job(job), "status") == b"queued" for job in jobs)
    )


def test_what_a_person_wrote_and_their_number_never_reach_the_stored_reason(quick_redis: RedisServer) -> None:
    @handler(ReplyEvent)
    def quoting(event: ReplyEvent) -> None:
        raise Pause(600, f"503 to {event.text!r} from {event.sender}")

    with open_harness(quick_redis.url, quoting) as harness:
        harness.accept(reply("r1", text="my PIN is 4711"))
        harness.expand()
        harness.deliver(quoting)

        found = state(harness, quoting)
    assert found is not None
    assert found.reason == "503 to '***' from 356*****001"


def test_a_pause_stops_the_queue_at_its_first_event_and_costs_no_attempt(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    accept_and_expand(harness, "1", "2", "3")
    script.act = away_from("2")

    with caplog.at_level(logging.WARNING):
        harness.deliver(single)

    assert script.called == ["1", "2"], "what comes behind it is not tried"
    assert harness.totals(single) == HandlerTotals(delivered=1, waiting=2)
    assert unburnt(harness)
    found = state(harness)
    assert found is not None
    assert (found.by, found.reason, found.times, found.is_probing) == ("handler", "moving house", 1, False)
    assert 500 < found.seconds_left <= 600
    assert 'action=handler_paused handler=single seconds=600 by=handler error="moving house"' in caplog.text
    assert harness.audit().balances


def test_during_a_pause_the_handler_is_not_called_and_other_handlers_are(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    script.act = away
    harness.deliver(single)
    accept_and_expand(harness, "2")

    harness.deliver(single)
    harness.deliver(other)

    assert script.called == ["1"]
    assert harness.totals(single) == HandlerTotals(waiting=2)
    assert harness.totals(other) == HandlerTotals(delivered=2)
    assert unburnt(harness)


def test_coalesced_jobs_wait_in_the_queue_again_in_their_order(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch.Prefetcher, "_prefetch_count", lambda _self: prefetch.MAX_ITEMS)
    for n in range(4):
        accept_and_expand(harness, str(2 * n), str(2 * n + 1))
    script.act = away_from("3")
    jobs = harness.waiting_jobs("deliver-single")

    harness.deliver(single)

    assert harness.waiting_jobs("deliver-single") == jobs
    left = [
        [event.raw["message_id"] for event in events.from_arrays([array for _, array in job.events])]
        for job in (queue_jobs.read_delivery_job(harness.connection, job_id) for job_id in jobs)
    ]
    assert left == [[], ["3"], ["4", "5"], ["6", "7"]], "what is settled stays settled, of the run's own job as well"
    assert harness.totals(single) == HandlerTotals(delivered=3, waiting=5)
    assert unburnt(harness)
    over(harness)
    script.act = lambda _event: None
    harness.deliver(single)
    assert script.called == ["0", "1", "2", "3", "3", "4", "5", "6", "7"]
    assert harness.totals(single) == HandlerTotals(delivered=8)


@pytest.mark.parametrize("ends", [lambda _event: None, rejecting], ids=["done", "rejected"])
def test_the_first_event_after_a_pause_ends_it(harness: Harness, ends: Act, caplog: pytest.LogCaptureFixture) -> None:
    accept_and_expand(harness, "1", "2", "3")
    script.act = away
    harness.deliver(single)
    over(harness)
    script.act = ends

    with caplog.at_level(logging.INFO):
        harness.deliver(single)

    assert state(harness) is None
    assert script.called == ["1", "1", "2", "3"]
    assert harness.totals(single) == (HandlerTotals(dead=3) if ends is rejecting else HandlerTotals(delivered=3))
    assert "action=handler_resumed handler=single seconds=" in caplog.text


def test_a_probe_that_asks_for_a_pause_prolongs_it_by_the_new_time(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    script.act = away
    harness.deliver(single)
    began = state(harness)
    over(harness)

    def away_for_longer(event: ReportEvent) -> None:
        raise Pause(3000, "moving farther")

    script.act = away_for_longer

    harness.deliver(single)

    found = state(harness)
    assert began is not None
    assert found is not None
    assert 2900 < found.seconds_left <= 3000
    assert (found.since, found.times, found.reason, found.is_probing) == (began.since, 2, "moving farther", False)
    assert script.called == ["1", "1"]
    assert harness.totals(single) == HandlerTotals(waiting=2)
    assert unburnt(harness)


@pytest.mark.parametrize("error", [RuntimeError("as it was told"), Retry(after_seconds=900)], ids=["failed", "retry"])
def test_a_probe_that_fails_loses_its_own_attempt_and_prolongs_the_pause(harness: Harness, error: Exception) -> None:
    accept_and_expand(harness, "1", "2")
    script.act = away
    harness.deliver(single)
    over(harness)

    def act(event: ReportEvent) -> None:
        raise error

    script.act = act

    harness.deliver(single)

    found = state(harness)
    assert found is not None
    assert 500 < found.seconds_left <= 600
    assert found.times == 2
    assert script.called == ["1", "1"], "the other one has not been tried"
    assert harness.connection.zcard(keys.rq_scheduled("deliver-single")) == 1
    assert harness.totals(single) == HandlerTotals(waiting=2)


def test_a_batch_that_pauses_is_not_split_and_its_probe_is_a_list_of_one(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2", "3")
    script.act = away
    harness.deliver(whole)
    assert script.calls == [["1", "2", "3"]]
    assert unburnt(harness, whole)

    over(harness, whole)
    harness.deliver(whole)
    assert script.calls[1:] == [["1"]]
    over(harness, whole)
    script.act = lambda _event: None
    harness.deliver(whole)

    assert script.calls[2:] == [["1"], ["2", "3"]]
    assert harness.totals(whole) == HandlerTotals(delivered=3)


def test_concurrent_calls_in_flight_at_a_pause_are_finished(quick_redis: RedisServer) -> None:
    called: list[str] = []

    @handler(ReportEvent, concurrency=32)
    async def several(event: ReportEvent) -> None:
        called.append(event.message_id)
        if event.message_id == "5":
            raise Pause(600)
        await asyncio.sleep(0.3)

    with open_harness(quick_redis.url, several) as harness:
        harness.accept(*statuses([str(n) for n in range(100)], bundle=100))
        harness.expand()

        harness.deliver(several)

        assert called == [str(n) for n in range(32)]
        assert harness.totals(several) == HandlerTotals(delivered=31, waiting=69)
        assert unburnt(harness, several)


def test_a_calls_own_pause_does_not_shorten_one_that_another_process_asked_for(harness: Harness) -> None:
    accept_and_expand(harness, "1")

    def act(event: ReportEvent) -> None:
        harness.connection.hset(
            keys.paused("single"),
            mapping={"by": "handler", "since_ms": 1, "until_ms": 9_999_999_999_999, "after_ms": 1000, "times": 1},
        )
        raise Pause(5)

    script.act = act
    harness.deliver(single)

    found = state(harness)
    assert found is not None
    assert found.seconds_left > 1e9
    assert found.times == 1


def test_an_operators_pause_stops_a_run_at_its_next_settlement_and_lasts_until_resumed(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2", "3", "4")

    def act(event: ReportEvent) -> None:
        if event.message_id == "2":
            pause.pause(harness.connection, "single")
            raise Reject("and so it is settled at once")

    script.act = act
    harness.deliver(single)

    assert script.called == ["1", "2"]
    found = state(harness)
    assert found is not None
    assert (found.by, found.until) == ("operator", None)
    assert harness.connection.ttl(keys.paused("single")) == -1
    harness.deliver(single)
    assert harness.totals(single) == HandlerTotals(delivered=1, dead=1, waiting=2)
    assert unburnt(harness)
    assert pause.resume(harness.connection, "single")
    assert not pause.resume(harness.connection, "single")
    harness.deliver(single)
    assert harness.totals(single) == HandlerTotals(delivered=3, dead=1)


def test_neither_a_pause_nor_a_probe_changes_an_operators_pause(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    script.act = away
    harness.deliver(single)
    over(harness)
    script.act = lambda _event: pause.pause(harness.connection, "single")

    harness.deliver(single)

    found = state(harness)
    assert found is not None
    assert found.by == "operator"
    assert script.called == ["1", "1"]
    assert harness.totals(single) == HandlerTotals(delivered=1, waiting=1)


def test_a_probe_that_has_to_stop_leaves_the_probe_to_another_run_at_once(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    script.act = away
    harness.deliver(single)
    over(harness)

    harness.deliver(single, stop_when=lambda: True, max_jobs=1)

    assert script.called == ["1"]
    found = state(harness)
    assert found is not None
    assert (found.seconds_left, found.is_probing) == (0, False)


def test_a_pause_is_kept_for_a_day_after_its_end(harness: Harness) -> None:
    accept_and_expand(harness, "1")
    script.act = away

    harness.deliver(single)

    assert 0 < harness.connection.ttl(keys.paused("single")) - keys.PAUSE_KEPT_SECONDS <= 600


def test_a_retry_after_centuries_is_due_within_30_days(harness: Harness) -> None:
    accept_and_expand(harness, "1")

    def much_later(event: ReportEvent) -> None:
        raise Retry(after_seconds=1e12)

    script.act = much_later
    before = time.time()
    harness.deliver(single)

    ((_, due),) = harness.connection.zrange(keys.rq_scheduled("deliver-single"), 0, -1, withscores=True)
    assert before + 30 * 86_400 <= due <= time.time() + 30 * 86_400
    assert queue_state.read_state(harness.connection, "single").next_attempt_at is not None


def test_the_deaths_of_workers_count_until_an_event_is_settled(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    (job,) = harness.waiting_jobs("deliver-single")
    harness.connection.hset(keys.job(job), "deaths", 1)
    script.act = away

    harness.deliver(single)

    assert harness.connection.hget(keys.job(job), "deaths") == b"1"
