"""How much one process claims of what waits for its handler, when it settles, and how it stops."""

import time
from collections.abc import Iterator

import pytest

from callbacks import ReportEvent, handler
from shared import keys
from tests.integration.told import at_handler, brought, fail_at, other, single, told, whole
from tests.integration.workbench import Bench, _quick_server, bench, quick_redis  # noqa: F401
from tests.redis_server import RedisServer
from workers.deliver import delivery


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    told.__init__()  # type: ignore[misc]


@pytest.fixture
def b(quick_redis: RedisServer) -> Iterator[Bench]:  # noqa: F811
    with bench(quick_redis.url, single, other, whole) as made:
        yield made


def test_a_stop_settles_what_is_done_and_requeues_the_rest_at_the_front(b: Bench) -> None:
    brought(b, "1", "2", "3", "4")
    brought(b, "5")

    b.deliver(single, stop_when=lambda: len(told.called) == 2, max_jobs=1)

    assert told.called == ["1", "2"]
    assert at_handler(b, single) == (2, 0, 3, 0)
    assert not b.connection.exists(keys.rq_started("deliver-single"))
    assert not b.connection.exists(keys.rq_scheduled("deliver-single")), "an event that was not tried has not failed"
    b.deliver(single)
    assert told.called == ["1", "2", "3", "4", "5"]
    assert b.leftovers() == {
        *(keys.rq_queue(f"deliver-{name}") for name in ("other", "whole")),
        *(keys.job(job_id) for name in ("other", "whole") for job_id in b.waiting(f"deliver-{name}")),
    }


def test_a_stop_before_the_first_call_changes_nothing(b: Bench) -> None:
    brought(b, "1", "2")

    b.deliver(single, stop_when=lambda: True, max_jobs=1)

    assert told.called == []
    assert at_handler(b, single) == (0, 0, 2, 0)
    b.deliver(single)
    assert told.called == ["1", "2"]


def test_what_is_done_is_settled_while_the_rest_runs(b: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_SETTLE_SECONDS", 0.0)
    brought(b, "1", "2", "3")
    waiting: list[int] = []
    told.act = lambda _event: waiting.append(at_handler(b, single)[2])

    b.deliver(single)

    assert waiting == [3, 2, 1]


def test_a_process_starts_with_one_job_to_measure_its_handler(b: Bench) -> None:
    for n in range(3):
        brought(b, str(n))

    b.deliver(single, max_jobs=1)

    assert told.called == ["0"]


def test_a_slow_handler_leaves_work_to_a_second_process(b: Bench) -> None:
    for n in range(40):
        brought(b, str(n))
    told.act = lambda _event: time.sleep(0.05)

    b.deliver(single, stop_when=lambda: len(told.called) == 2, max_jobs=2)

    assert 10 < len(b.waiting("deliver-single")) < 40, "its second run took along what it gets done in a second"


def test_a_fast_handler_coalesces_ever_more(b: Bench, runs: list[str]) -> None:
    brought(b, *(str(n) for n in range(5000)))

    b.deliver(other)

    assert at_handler(b, other) == (5000, 0, 0, 0)
    assert len(runs) < 20, "fifty jobs"


def test_five_thousand_failures_are_five_thousand_retries(b: Bench) -> None:
    brought(b, *(str(n) for n in range(5000)))
    told.act = lambda _event: fail_at(_event.message_id)(_event)

    b.deliver(single)

    assert at_handler(b, single) == (0, 0, 5000, 0)
    assert b.connection.zcard(keys.rq_scheduled("deliver-single")) == 5000


@handler(ReportEvent, concurrency=4)
async def many(event: ReportEvent) -> None:
    """Accept it."""


def test_a_concurrent_handler_starts_with_several_rounds(
    quick_redis: RedisServer,  # noqa: F811
    runs: list[str],
) -> None:
    with bench(quick_redis.url, many) as b:
        for number in range(8):
            brought(b, f"{number}a", f"{number}b")

        b.deliver(many)

        assert at_handler(b, many)[0] == 16
    assert len(runs) == 1
