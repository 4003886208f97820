"""How much one process claims of what waits for its handler, when it settles, and how it stops."""

import time

import pytest

from callbacks import ReportEvent, handler
from shared import keys
from tests.integration.harness import HandlerTotals, Harness, open_harness
from tests.integration.scripted_handlers import (
    accept_and_expand,
    fail_for,
    other,
    script,
    single,
)
from tests.redis_server import RedisServer
from workers.deliver import delivery


def test_a_stop_settles_what_is_done_and_requeues_the_rest_at_the_front(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2", "3", "4")
    accept_and_expand(harness, "5")

    harness.deliver(single, stop_when=lambda: len(script.called) == 2, max_jobs=1)

    assert script.called == ["1", "2"]
    assert harness.totals(single) == HandlerTotals(delivered=2, waiting=3)
    assert not harness.connection.exists(keys.rq_started("deliver-single"))
    assert not harness.connection.exists(keys.rq_scheduled("deliver-single")), (
        "an event that was not tried has not failed"
    )
    harness.deliver(single)
    assert script.called == ["1", "2", "3", "4", "5"]
    assert harness.leftover_keys() == {
        *(keys.rq_queue(f"deliver-{name}") for name in ("other", "whole")),
        *(keys.job(job_id) for name in ("other", "whole") for job_id in harness.waiting_jobs(f"deliver-{name}")),
    }


def test_a_stop_before_the_first_call_changes_nothing(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")

    harness.deliver(single, stop_when=lambda: True, max_jobs=1)

    assert script.called == []
    assert harness.totals(single) == HandlerTotals(waiting=2)
    harness.deliver(single)
    assert script.called == ["1", "2"]


def test_what_is_done_is_settled_while_the_rest_runs(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_SETTLE_SECONDS", 0.0)
    accept_and_expand(harness, "1", "2", "3")
    waiting: list[int] = []
    script.act = lambda _event: waiting.append(harness.totals(single).waiting)

    harness.deliver(single)

    assert waiting == [3, 2, 1]


def test_a_process_starts_with_one_job_to_measure_its_handler(harness: Harness) -> None:
    for n in range(3):
        accept_and_expand(harness, str(n))

    harness.deliver(single, max_jobs=1)

    assert script.called == ["0"]


def test_a_slow_handler_leaves_work_to_a_second_process(harness: Harness) -> None:
    for n in range(40):
        accept_and_expand(harness, str(n))
    script.act = lambda _event: time.sleep(0.05)

    harness.deliver(single, stop_when=lambda: len(script.called) == 2, max_jobs=2)

    assert 10 < len(harness.waiting_jobs("deliver-single")) < 40, (
        "its second run took along what it gets done in a second"
    )


def test_a_fast_handler_coalesces_ever_more(harness: Harness, runs: list[str]) -> None:
    accept_and_expand(harness, *(str(n) for n in range(5000)))

    harness.deliver(other)

    assert harness.totals(other) == HandlerTotals(delivered=5000)
    assert len(runs) < 20, "fifty jobs"


def test_five_thousand_failures_are_five_thousand_retries(harness: Harness) -> None:
    accept_and_expand(harness, *(str(n) for n in range(5000)))
    script.act = lambda _event: fail_for(_event.message_id)(_event)

    harness.deliver(single)

    assert harness.totals(single) == HandlerTotals(waiting=5000)
    assert harness.connection.zcard(keys.rq_scheduled("deliver-single")) == 5000


@handler(ReportEvent, concurrency=4)
async def many(event: ReportEvent) -> None:
    """Accept it."""


def test_a_concurrent_handler_starts_with_several_rounds(
    quick_redis: RedisServer,
    runs: list[str],
) -> None:
    with open_harness(quick_redis.url, many) as harness:
        for number in range(8):
            accept_and_expand(harness, f"{number}a", f"{number}b")

        harness.deliver(many)

        assert harness.totals(many).delivered == 16
    assert len(runs) == 1
