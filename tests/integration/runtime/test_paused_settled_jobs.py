"""A job of which all is settled is requeued when its run ends by a pause: it ends too, and leaves nothing."""

from collections.abc import Iterator

import pytest

from callbacks import Pause, ReportEvent
from shared import keys
from tests.integration.harness import HandlerTotals, Harness, open_harness
from tests.integration.scripted_handlers import accept_and_expand, other, script, single, whole
from tests.redis_server import RedisServer
from workers.deliver import prefetch
from workers.runtime import pause


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    script.__init__()  # type: ignore[misc]
    monkeypatch.setattr(prefetch.Prefetcher, "_prefetch_count", lambda _self: prefetch.MAX_ITEMS)
    with open_harness(quick_redis.url, single, other, whole) as made:
        yield made


def away_from_3(event: ReportEvent) -> None:
    if int(event.message_id) >= 3:
        raise Pause(600, "moving house")


def test_it_is_not_coalesced_by_another_run_which_could_not_end_it(harness: Harness) -> None:
    accept_and_expand(harness, "1", "2")
    accept_and_expand(harness, "3")
    script.act = away_from_3
    harness.deliver(single)
    settled, left = harness.waiting_jobs("deliver-single")
    assert harness.connection.hget(keys.job(settled), "progress") == b"2"
    assert harness.totals(single) == HandlerTotals(delivered=2, waiting=1)
    # As another process leaves them that has requeued a job of its own meanwhile.
    harness.connection.lmove(keys.rq_queue("deliver-single"), keys.rq_queue("deliver-single"), "RIGHT", "LEFT")
    assert harness.waiting_jobs("deliver-single") == [left, settled]

    script.act = lambda _event: None
    pause.resume(harness.connection, "single")
    for function in (single, other, whole):
        harness.deliver(function)

    assert harness.totals(single) == HandlerTotals(delivered=3)
    assert harness.leftover_keys() == set()
