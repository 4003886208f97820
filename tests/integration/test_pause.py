"""A handler whose target is away: its queue waits, no attempt is lost, one event is tried first, the sums come out."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from callbacks import Pause, Reject, ReportEvent, Retry, handler
from shared import keys, queues
from tests.integration.told import at_handler, brought, other, single, told, whole
from tests.integration.workbench import Bench, _quick_server, bench, declared, quick_redis, statuses  # noqa: F401
from tests.redis_server import RedisServer
from workers.admin import queue_state
from workers.deliver import prefetch
from workers.runtime import pause

Act = Callable[[ReportEvent], Any]


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    told.__init__()  # type: ignore[misc]


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    with bench(quick_redis.url, single, other, whole) as made:
        yield made


def away(event: ReportEvent) -> None:
    raise Pause(600, "moving house")


def away_from(message_id: str) -> Act:
    def act(event: ReportEvent) -> None:
        if int(event.message_id) >= int(message_id):
            raise Pause(600, "moving house")

    return act


def rejecting(event: ReportEvent) -> None:
    raise Reject("not this one")


def over(b: Bench, function: Callable[..., Any] = single) -> None:
    """Let the pause's time be over."""
    key = keys.paused(declared(function).name)
    assert b.connection.hset(key, "until_ms", 1) == 0


def state(b: Bench, function: Callable[..., Any] = single) -> pause.PauseState | None:
    return pause.read_state(b.connection, declared(function).name)


def unburnt(b: Bench, function: Callable[..., Any] = single) -> bool:
    """Tell whether the handler's jobs wait where RQ shows them, at their first attempt, with no death on them."""
    queue = queues.delivery_queue(declared(function).name)
    jobs = b.waiting(queue)
    return (
        not b.connection.zcard(keys.rq_started(queue))
        and not b.connection.zcard(keys.rq_scheduled(queue))
        and not b.connection.keys(f"{keys.COALESCED_PREFIX}*")
        and all(b.connection.hget(keys.job(job), "deaths") is None for job in jobs)
        and all(queues.parse_arguments(b.connection.hget(keys.job(job), "data"))[2] == 1 for job in jobs)
        and all(b.connection.hget(keys.job(job), "status") == b"queued" for job in jobs)
    )


def test_a_pause_stops_the_queue_at_its_first_event_and_costs_no_attempt(
    b: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    brought(b, "1", "2", "3")
    told.act = away_from("2")

    with caplog.at_level(logging.WARNING):
        b.deliver(single)

    assert told.called == ["1", "2"], "what comes behind it is not tried"
    assert at_handler(b, single) == (1, 0, 2, 0)
    assert unburnt(b)
    found = state(b)
    assert found is not None
    assert (found.by, found.reason, found.times, found.is_probing) == ("handler", "moving house", 1, False)
    assert 500 < found.seconds_left <= 600
    assert "action=handler_paused handler=single seconds=600" in caplog.text
    assert "moving house" not in caplog.text
    assert b.audit().balances


def test_while_it_lasts_nobody_calls_the_handler_and_other_handlers_go_on(b: Bench) -> None:
    brought(b, "1")
    told.act = away
    b.deliver(single)
    brought(b, "2")

    b.deliver(single)
    b.deliver(other)

    assert told.called == ["1"]
    assert at_handler(b, single) == (0, 0, 2, 0)
    assert at_handler(b, other) == (2, 0, 0, 0)
    assert unburnt(b)


def test_jobs_that_were_taken_along_wait_in_the_queue_again_in_their_order(
    b: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch.Prefetcher, "_prefetch_count", lambda _self: prefetch.MAX_ITEMS)
    for n in range(4):
        brought(b, str(2 * n), str(2 * n + 1))
    told.act = away_from("3")

    b.deliver(single)

    first = [events[0][5] for events in b.waiting_events(single)]
    assert first == ["0", "2", "4", "6"], "the run's own job comes first; what of it is settled stays settled"
    assert at_handler(b, single) == (3, 0, 5, 0)
    assert unburnt(b)
    over(b)
    told.act = lambda _event: None
    b.deliver(single)
    assert told.called == ["0", "1", "2", "3", "3", "4", "5", "6", "7"]
    assert at_handler(b, single) == (8, 0, 0, 0)


@pytest.mark.parametrize("ends", [lambda _event: None, rejecting], ids=["done", "rejected"])
def test_the_first_event_after_it_ends_it_and_all_go_on(b: Bench, ends: Act, caplog: pytest.LogCaptureFixture) -> None:
    brought(b, "1", "2", "3")
    told.act = away
    b.deliver(single)
    over(b)
    told.act = ends

    with caplog.at_level(logging.INFO):
        b.deliver(single)

    assert state(b) is None
    assert told.called == ["1", "1", "2", "3"]
    delivered, dead, *rest = at_handler(b, single)
    assert (delivered, dead) == ((0, 3) if ends is rejecting else (3, 0))
    assert rest == [0, 0]
    assert "action=handler_resumed handler=single seconds=" in caplog.text


def test_a_probe_that_pauses_again_goes_on_with_the_new_time(b: Bench) -> None:
    brought(b, "1", "2")
    told.act = away
    b.deliver(single)
    began = state(b)
    over(b)

    def away_for_longer(event: ReportEvent) -> None:
        raise Pause(3000, "moving farther")

    told.act = away_for_longer

    b.deliver(single)

    found = state(b)
    assert began is not None
    assert found is not None
    assert 2900 < found.seconds_left <= 3000
    assert (found.since, found.times, found.reason, found.is_probing) == (began.since, 2, "moving farther", False)
    assert told.called == ["1", "1"]
    assert at_handler(b, single) == (0, 0, 2, 0)
    assert unburnt(b)


@pytest.mark.parametrize("error", [RuntimeError("as it was told"), Retry(after_seconds=900)], ids=["failed", "retry"])
def test_a_probe_that_fails_burns_its_own_attempt_and_the_pause_goes_on_for_as_long(b: Bench, error: Exception) -> None:
    brought(b, "1", "2")
    told.act = away
    b.deliver(single)
    over(b)

    def act(event: ReportEvent) -> None:
        raise error

    told.act = act

    b.deliver(single)

    found = state(b)
    assert found is not None
    assert 500 < found.seconds_left <= 600
    assert found.times == 2
    assert told.called == ["1", "1"], "the other one has not been tried"
    assert b.connection.zcard(keys.rq_scheduled("deliver-single")) == 1
    assert at_handler(b, single) == (0, 0, 2, 0)


def test_a_batch_that_pauses_is_not_taken_apart_and_its_probe_is_a_list_of_one(b: Bench) -> None:
    brought(b, "1", "2", "3")
    told.act = away
    b.deliver(whole)
    assert told.calls == [["1", "2", "3"]]
    assert unburnt(b, whole)

    over(b, whole)
    b.deliver(whole)
    assert told.calls[1:] == [["1"]]
    over(b, whole)
    told.act = lambda _event: None
    b.deliver(whole)

    assert told.calls[2:] == [["1"], ["2", "3"]]
    assert at_handler(b, whole) == (3, 0, 0, 0)


def test_of_concurrent_calls_those_under_way_are_kept(quick_redis: RedisServer) -> None:  # noqa: F811
    called: list[str] = []

    @handler(ReportEvent, concurrency=32)
    async def several(event: ReportEvent) -> None:
        called.append(event.message_id)
        if event.message_id == "5":
            raise Pause(600)
        await asyncio.sleep(0.3)

    with bench(quick_redis.url, several) as b:
        b.keep(*statuses([str(n) for n in range(100)], bundle=100))
        b.expand()

        b.deliver(several)

        assert called == [str(n) for n in range(32)]
        assert at_handler(b, several) == (31, 0, 69, 0)
        assert unburnt(b, several)


def test_a_calls_own_pause_does_not_shorten_one_that_another_process_asked_for(b: Bench) -> None:
    brought(b, "1")

    def act(event: ReportEvent) -> None:
        b.connection.hset(
            keys.paused("single"),
            mapping={"by": "handler", "since_ms": 1, "until_ms": 9_999_999_999_999, "after_ms": 1000, "times": 1},
        )
        raise Pause(5)

    told.act = act
    b.deliver(single)

    found = state(b)
    assert found is not None
    assert found.seconds_left > 1e9
    assert found.times == 1


def test_off_stops_a_run_at_its_next_settlement_has_no_end_and_on_ends_it(b: Bench) -> None:
    brought(b, "1", "2", "3", "4")

    def act(event: ReportEvent) -> None:
        if event.message_id == "2":
            pause.pause(b.connection, "single")
            raise Reject("and so it is settled at once")

    told.act = act
    b.deliver(single)

    assert told.called == ["1", "2"]
    found = state(b)
    assert found is not None
    assert (found.by, found.until) == ("operator", None)
    assert b.connection.ttl(keys.paused("single")) == -1
    b.deliver(single)
    assert at_handler(b, single) == (1, 1, 2, 0)
    assert unburnt(b)
    assert pause.resume(b.connection, "single")
    assert not pause.resume(b.connection, "single")
    b.deliver(single)
    assert at_handler(b, single) == (3, 1, 0, 0)


def test_neither_a_pause_nor_a_probe_changes_what_an_operator_said(b: Bench) -> None:
    brought(b, "1", "2")
    told.act = away
    b.deliver(single)
    over(b)
    told.act = lambda _event: pause.pause(b.connection, "single")

    b.deliver(single)

    found = state(b)
    assert found is not None
    assert found.by == "operator"
    assert told.called == ["1", "1"]
    assert at_handler(b, single) == (1, 0, 1, 0)


def test_a_probe_that_is_told_to_stop_leaves_it_to_another_at_once(b: Bench) -> None:
    brought(b, "1")
    told.act = away
    b.deliver(single)
    over(b)

    b.deliver(single, stop_when=lambda: True, max_jobs=1)

    assert told.called == ["1"]
    found = state(b)
    assert found is not None
    assert (found.seconds_left, found.is_probing) == (0, False)


def test_a_pause_outlives_its_end_by_a_day_and_no_more(b: Bench) -> None:
    brought(b, "1")
    told.act = away

    b.deliver(single)

    assert 0 < b.connection.ttl(keys.paused("single")) - keys.PAUSE_KEPT_SECONDS <= 600


def test_a_retry_after_longer_than_anybody_lives_comes_within_30_days(b: Bench) -> None:
    brought(b, "1")

    def much_later(event: ReportEvent) -> None:
        raise Retry(after_seconds=1e12)

    told.act = much_later
    before = time.time()
    b.deliver(single)

    ((_, due),) = b.connection.zrange(keys.rq_scheduled("deliver-single"), 0, -1, withscores=True)
    assert before + 30 * 86_400 <= due <= time.time() + 30 * 86_400
    assert queue_state.read_state(b.connection, "single").next_attempt_at is not None


def test_the_deaths_of_workers_stand_until_something_is_settled(b: Bench) -> None:
    brought(b, "1", "2")
    (job,) = b.waiting("deliver-single")
    b.connection.hset(keys.job(job), "deaths", 1)
    told.act = away

    b.deliver(single)

    assert b.connection.hget(keys.job(job), "deaths") == b"1"
