"""A worker that stands still at any moment for longer than its lease calls no event that another worker has by then."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import keys
from tests.integration import faults, recorders
from tests.integration.faults import StageRun
from tests.integration.harness import HandlerTotals, Harness, open_harness, record, status, statuses, worker_name
from tests.redis_server import RedisServer
from workers.runtime.claim import ClaimStep
from workers.runtime.run_errors import StaleRun

QUEUE = "deliver-single"


@pytest.fixture(autouse=True)
def _calls_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "calls"))
    faults.check_at_once(monkeypatch)


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, *recorders.ALL) as made:
        yield made


@pytest.mark.parametrize("name", ["single", "several"])
def test_a_worker_frozen_at_any_exchange_with_redis_calls_no_event_again(harness: Harness, name: str) -> None:
    def prepare() -> None:
        harness.connection.flushall()
        Path(os.environ[recorders.VARIABLE]).unlink(missing_ok=True)
        harness.accept(status(*(record(str(number)) for number in range(2))))
        harness.expand()
        harness.accept(*statuses(["3", "4", "5"]))
        harness.expand()

    stage_run = StageRun(harness.url, name)
    prepare()
    points = stage_run.fault_points()

    for at in faults.points_to_try(points, "frozen", turn=["single", "several"].index(name)):
        prepare()

        stage_run.run_frozen_while_another_takes_over(at)

        where = f"frozen at exchange {at} of {points}"
        assert set(recorders.calls(name).values()) == {1}, where
        assert harness.totals(name) == HandlerTotals(delivered=5), where


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
