"""A job of which all is settled is requeued when its run ends by a pause: it ends too, and leaves nothing."""

from collections.abc import Iterator

import pytest

from callbacks import Pause, ReportEvent
from shared import keys
from tests.integration.told import at_handler, brought, other, single, told, whole
from tests.integration.workbench import Bench, _quick_server, bench, quick_redis  # noqa: F401
from tests.redis_server import RedisServer
from workers.deliver import prefetch
from workers.runtime import pause


@pytest.fixture
def b(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:  # noqa: F811
    told.__init__()  # type: ignore[misc]
    monkeypatch.setattr(prefetch.Prefetcher, "_prefetch_count", lambda _self: prefetch.MAX_ITEMS)
    with bench(quick_redis.url, single, other, whole) as made:
        yield made


def away_from_3(event: ReportEvent) -> None:
    if int(event.message_id) >= 3:
        raise Pause(600, "moving house")


def test_it_is_not_coalesced_by_another_run_which_could_not_end_it(b: Bench) -> None:
    brought(b, "1", "2")
    brought(b, "3")
    told.act = away_from_3
    b.deliver(single)
    settled, left = b.waiting("deliver-single")
    assert (b.connection.hget(keys.job(settled), "progress"), at_handler(b, single)) == (b"2", (2, 0, 1, 0))
    # As another process leaves them that has requeued a job of its own meanwhile.
    b.connection.lmove(keys.rq_queue("deliver-single"), keys.rq_queue("deliver-single"), "RIGHT", "LEFT")
    assert b.waiting("deliver-single") == [left, settled]

    told.act = lambda _event: None
    pause.resume(b.connection, "single")
    for function in (single, other, whole):
        b.deliver(function)

    assert at_handler(b, single) == (3, 0, 0, 0)
    assert b.leftovers() == set()
