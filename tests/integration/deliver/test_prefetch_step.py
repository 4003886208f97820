"""The step that adds waiting jobs to a run in progress: only while the run holds its job, and each job once."""

from collections.abc import Iterator

import pytest

from callbacks import ReportEvent, handler
from shared import keys, queues
from tests.integration.harness import Harness, open_harness, statuses
from tests.redis_server import RedisServer
from workers.runtime.claim import ClaimStep

WORKER = "somebody"


@handler(ReportEvent, concurrency=4)
async def waits(event: ReportEvent) -> None:
    """Accept it."""


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:
    with open_harness(quick_redis.url, waits) as made:
        yield made


@pytest.fixture
def run(harness: Harness) -> "RunInProgress":
    for message_id in ("0", "1", "2"):
        harness.accept(*statuses([message_id]))
        harness.expand()
    return RunInProgress(harness)


class RunInProgress:
    """A run in progress: its job, and what waits behind it."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.step = ClaimStep(harness.connection, "deliver-waits", handler="waits")
        self.job, self.next, self.last = harness.waiting_jobs("deliver-waits")
        harness.connection.lrem(keys.rq_queue("deliver-waits"), 1, self.job)
        harness.connection.hset(keys.job(self.job), mapping={"status": "started", "worker_name": WORKER})

    def claim(self, *, max_items: int = 9) -> list[str]:
        """Claim more; return the ids of the jobs."""
        claimed_jobs = self.step.claim_more(
            job_id=self.job,
            worker=WORKER,
            max_items=max_items,
            max_bytes=1 << 20,
        )
        return [claimed.job_id for claimed in claimed_jobs]

    def coalesced(self) -> list[str]:
        return [job.decode() for job in self.harness.connection.lrange(keys.coalesced(self.job), 0, -1)]


def test_a_run_that_holds_its_job_claims_what_waits(run: RunInProgress) -> None:
    assert run.claim() == run.coalesced() == [run.next, run.last]
    assert run.harness.waiting_jobs("deliver-waits") == []


@pytest.mark.parametrize(
    ("field", "value"), [("worker_name", "another"), ("status", "queued"), ("data", None)], ids=str
)
def test_a_run_that_has_lost_its_job_claims_nothing(run: RunInProgress, field: str, value: str | None) -> None:
    if value is None:
        run.harness.connection.hdel(keys.job(run.job), field)
    else:
        run.harness.connection.hset(keys.job(run.job), field, value)

    assert run.claim() == run.coalesced() == []
    assert run.harness.waiting_jobs("deliver-waits") == [run.next, run.last]


def test_nothing_is_claimed_for_a_handler_that_an_operator_paused(run: RunInProgress) -> None:
    run.harness.connection.hset(keys.paused("waits"), "by", "operator")

    assert run.claim() == run.coalesced() == []


def test_a_job_larger_than_the_limit_is_claimed_alone(run: RunInProgress) -> None:
    run.harness.connection.hset(keys.job(run.next), "items", 100)

    assert run.claim(max_items=4) == [run.next]
    assert run.claim(max_items=4) == [run.last]


def test_jobs_that_were_coalesced_already_are_not_claimed_again(run: RunInProgress) -> None:
    # By hand, or by a tool: ids that are in their queue a second time.
    run.claim()
    run.harness.connection.rpush(keys.rq_queue("deliver-waits"), run.job, run.next, run.last)

    assert run.claim() == []
    assert run.harness.waiting_jobs("deliver-waits") == []
    assert run.coalesced() == [run.next, run.last]


def test_a_job_of_a_newer_release_is_released_only_once_by_a_run(
    run: RunInProgress, caplog: pytest.LogCaptureFixture
) -> None:
    # Otherwise it would be claimed and released 40 times a second during a slow call.
    newer = queues.encode_call(queues.DELIVER_JOB, (99, {"of": "tomorrow"}))
    run.harness.connection.hset(keys.job(run.next), "data", newer)

    assert [run.claim(), run.claim(), run.claim()] == [[run.last], [], []]
    assert run.coalesced() == [run.last]
    assert run.harness.waiting_jobs("deliver-waits") == [run.next]
    assert caplog.text.count("action=job_unreadable") == 1


def test_an_unreadable_job_that_was_deleted_meanwhile_leaves_nothing(run: RunInProgress) -> None:
    run.harness.connection.lmove(keys.rq_queue("deliver-waits"), keys.coalesced(run.job), "LEFT", "RIGHT")
    run.harness.connection.delete(keys.job(run.next))

    run.step.release(run.job, run.next, ValueError("of tomorrow"))

    assert run.coalesced() == []
    assert not run.harness.connection.exists(keys.job(run.next))
    assert run.harness.waiting_jobs("deliver-waits") == [run.last]
