"""A worker that stands still at any moment for longer than its lease calls no event that another worker has by then."""

from collections.abc import Iterator

import pytest

from shared import keys
from tests.integration import recorders
from tests.integration.harness import Harness, open_harness, statuses, worker_name
from tests.redis_server import RedisServer
from workers.runtime.claim import ClaimStep
from workers.runtime.run_errors import StaleRun

QUEUE = "deliver-single"


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, *recorders.ALL) as made:
        yield made


def test_a_worker_that_has_lost_its_job_claims_nothing(harness: Harness) -> None:
    for message_id in ("1", "2"):
        harness.accept(*statuses([message_id]))
        harness.expand()
    first, second = harness.waiting_jobs(QUEUE)
    frozen, other = worker_name(QUEUE), worker_name(QUEUE)
    harness.connection.lpop(keys.rq_queue(QUEUE))
    arguments = harness.enter_as_running(first, other)

    with pytest.raises(StaleRun):
        ClaimStep(harness.connection, QUEUE).claim(
            job_id=first, worker=frozen, own_arguments=arguments, max_items=9, max_bytes=1 << 20
        )

    assert harness.waiting_jobs(QUEUE) == [second]
    assert not harness.connection.exists(keys.coalesced(first))
