"""The step that gives a run more of what waits: only to a run that holds its job, and each job once."""

from collections.abc import Iterator

import pytest

from callbacks import ReportEvent, handler
from shared import keys, queues
from tests.integration.harness import Harness, _quick_server, open_harness, quick_redis, statuses  # noqa: F401
from tests.redis_server import RedisServer
from workers.runtime.steps import Steps

WORKER = "somebody"


@handler(ReportEvent, concurrency=4)
async def waits(event: ReportEvent) -> None:
    """Take it."""


@pytest.fixture
def harness(quick_redis: RedisServer) -> Iterator[Harness]:  # noqa: F811
    with open_harness(quick_redis.url, waits) as made:
        yield made


@pytest.fixture
def going(harness: Harness) -> "Going":
    for message_id in ("0", "1", "2"):
        harness.accept(*statuses([message_id]))
        harness.expand()
    return Going(harness)


class Going:
    """A run that goes on: its job, and what waits behind it."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.job, self.next, self.last = harness.waiting_jobs("deliver-waits")
        harness.connection.lrem(keys.rq_queue("deliver-waits"), 1, self.job)
        harness.connection.hset(keys.job(self.job), mapping={"status": "started", "worker_name": WORKER})

    def take(self, *, max_items: int = 9) -> list[str]:
        """Take more; give the jobs."""
        portions = Steps(self.harness.connection).claim_more(
            queue="deliver-waits",
            job_id=self.job,
            worker=WORKER,
            max_items=max_items,
            max_bytes=1 << 20,
            handler="waits",
        )
        return [portion.job_id for portion in portions]

    def taken(self) -> list[str]:
        return [job.decode() for job in self.harness.connection.lrange(keys.coalesced(self.job), 0, -1)]


def test_a_run_that_holds_its_job_gets_what_waits(going: Going) -> None:
    assert going.take() == going.taken() == [going.next, going.last]
    assert going.harness.waiting_jobs("deliver-waits") == []


@pytest.mark.parametrize(
    ("field", "value"), [("worker_name", "another"), ("status", "queued"), ("data", None)], ids=str
)
def test_a_run_that_has_lost_its_job_gets_nothing(going: Going, field: str, value: str | None) -> None:
    if value is None:
        going.harness.connection.hdel(keys.job(going.job), field)
    else:
        going.harness.connection.hset(keys.job(going.job), field, value)

    assert going.take() == going.taken() == []
    assert going.harness.waiting_jobs("deliver-waits") == [going.next, going.last]


def test_nobody_takes_more_of_what_an_operator_holds(going: Going) -> None:
    going.harness.connection.hset(keys.paused("waits"), "by", "operator")

    assert going.take() == going.taken() == []


def test_a_job_that_is_larger_than_what_is_asked_for_comes_alone(going: Going) -> None:
    going.harness.connection.hset(keys.job(going.next), "items", 100)

    assert going.take(max_items=4) == [going.next]
    assert going.take(max_items=4) == [going.last]


def test_what_was_taken_along_already_is_not_given_again(going: Going) -> None:
    # By hand, or by a tool: ids that stand in their queue once more.
    going.take()
    going.harness.connection.rpush(keys.rq_queue("deliver-waits"), going.job, going.next, going.last)

    assert going.take() == []
    assert going.harness.waiting_jobs("deliver-waits") == []
    assert going.taken() == [going.next, going.last]


def test_a_job_of_a_newer_release_is_left_once_however_often_a_run_looks(
    going: Going, caplog: pytest.LogCaptureFixture
) -> None:
    # Left each time, it would be taken 40 times a second for as long as a call is slow.
    newer = queues.encode_call(queues.DELIVER_JOB, (99, {"of": "tomorrow"}))
    going.harness.connection.hset(keys.job(going.next), "data", newer)

    assert [going.take(), going.take(), going.take()] == [[going.last], [], []]
    assert going.taken() == [going.last]
    assert going.harness.waiting_jobs("deliver-waits") == [going.next]
    assert caplog.text.count("action=job_unreadable") == 1


def test_a_job_that_nobody_can_read_and_that_was_deleted_meanwhile_leaves_nothing(going: Going) -> None:
    going.harness.connection.lmove(keys.rq_queue("deliver-waits"), keys.coalesced(going.job), "LEFT", "RIGHT")
    going.harness.connection.delete(keys.job(going.next))

    Steps(going.harness.connection).release("deliver-waits", going.job, going.next, ValueError("of tomorrow"))

    assert going.taken() == []
    assert not going.harness.connection.exists(keys.job(going.next))
    assert going.harness.waiting_jobs("deliver-waits") == [going.last]
