"""What stands in Redis is what RQ itself would have written: its own tools read it, and its own classes end it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rq import Queue
from rq.job import Job, JobStatus, Retry
from rq.registry import StartedJobRegistry
from rq.utils import import_attribute, utcformat, utcparse
from rq.worker import BaseWorker

from callbacks import ReportEvent, handler
from shared import keys, queues
from tests.integration.harness import Harness, open_harness, record, status, statuses, worker_name
from tests.redis_server import RedisServer
from workers import jobs


@handler(ReportEvent)
def taker(event: ReportEvent) -> None:
    """Take it."""


@handler(ReportEvent)
def failing(event: ReportEvent) -> None:
    raise RuntimeError("no")


@pytest.fixture
def harness(redis_server: RedisServer) -> Iterator[Harness]:
    with open_harness(redis_server.url, taker, failing) as made:
        yield made


def queue_of(harness: Harness, name: str) -> Queue:
    return Queue(name, connection=harness.connection, serializer=queues.JsonSerializer)


def jobs_of_every_kind(harness: Harness) -> list[Job]:
    """Return a batch as the web process writes it, a delivery as a script writes it, and a retry that is to come."""
    harness.accept(status(record("1")))
    harness.expand()
    harness.deliver(failing)
    harness.accept(status(record("2")))
    scheduled = queue_of(harness, "deliver-failing").scheduled_job_registry
    (retry,) = (
        Job.fetch(job_id, connection=harness.connection, serializer=queues.JsonSerializer)
        for job_id in scheduled.get_job_ids()
    )
    return [*queue_of(harness, queues.EXPAND).jobs, *queue_of(harness, "deliver-taker").jobs, retry]


def test_rq_reads_every_job(harness: Harness) -> None:
    batch, delivery, retry = jobs_of_every_kind(harness)

    assert [job.get_status() for job in (batch, delivery, retry)] == [
        JobStatus.QUEUED,
        JobStatus.QUEUED,
        JobStatus.SCHEDULED,
    ]
    assert [job.origin for job in (batch, delivery, retry)] == ["expand", "deliver-taker", "deliver-failing"]
    assert [job.func_name for job in (batch, delivery, retry)] == [
        "workers.jobs.expand",
        "workers.jobs.deliver",
        "workers.jobs.deliver",
    ]
    assert [job.args[:3] for job in (delivery, retry)] == [[1, "taker", 1], [1, "failing", 2]]
    assert [job.description for job in (batch, delivery, retry)] == [
        "1 callbacks",
        "1 events for taker",
        "1 event for failing, attempt 2",
    ]
    assert all(job.kwargs == {} and job.instance is None for job in (batch, delivery, retry))
    assert all(job.retries_left and job.result_ttl == 0 for job in (batch, delivery, retry))
    assert all(job.enqueued_at is not None and job.created_at is not None for job in (batch, delivery, retry))


def test_a_jobs_fields_are_those_that_rq_writes(harness: Harness) -> None:
    ours = jobs_of_every_kind(harness)
    own_fields = ({b"items"}, {b"items", b"portions"}, {b"items", b"error", b"attempts"})
    theirs = queue_of(harness, "theirs").enqueue(
        queues.EXPAND_JOB, 1, [], description="", result_ttl=0, failure_ttl=60, job_timeout=60, retry=Retry(max=3)
    )

    written = harness.connection.hgetall(theirs.key)
    for job, own in zip(ours, own_fields, strict=True):
        fields = harness.connection.hgetall(job.key)
        assert set(fields) == {name for name, value in written.items() if value} | own, "all but the empty ones"
        assert fields[b"result_ttl"] == written[b"result_ttl"] == b"0"
        for when in (b"created_at", b"enqueued_at"):
            assert utcformat(utcparse(fields[when].decode())).encode() == fields[when]
        fields[b"data"] = written[b"data"]
        harness.connection.hset("rq:job:filled", mapping={**dict.fromkeys(written, b""), **fields})
        filled = Job.fetch("filled", connection=harness.connection, serializer=queues.JsonSerializer)
        bare = Job.fetch(job.id, connection=harness.connection, serializer=queues.JsonSerializer)
        for name in vars(bare).keys() - {"_id", "_data", "_args", "_kwargs", "_func_name", "_instance"}:
            assert getattr(bare, name) == getattr(filled, name), f"RQ reads {name} otherwise where it is empty"


def test_what_the_jobs_hold_is_json_and_nothing_that_runs(harness: Harness) -> None:
    for job in jobs_of_every_kind(harness):
        data = harness.connection.hget(job.key, "data")
        assert data.startswith(b'["workers.jobs.')
        *others, items = queues.JsonSerializer.loads(data)[2]
        assert [*others, list(items)] == [*job.args[:-1], list(job.args[-1])]
    assert queues.JsonSerializer.loads(queues.JsonSerializer.dumps([2**63])) == [2**63]


def test_a_job_that_rq_has_written_anew_is_still_read(harness: Harness) -> None:
    (batch, *_) = jobs_of_every_kind(harness)

    batch.save()

    assert not harness.connection.hget(batch.key, "data").startswith(b"[")
    assert queues.parse_arguments(harness.connection.hget(batch.key, "data")) == batch.args


@pytest.mark.parametrize(("name", "function"), [(queues.EXPAND_JOB, jobs.expand), (queues.DELIVER_JOB, jobs.deliver)])
def test_the_names_that_the_queues_hold_resolve(name: str, function: object) -> None:
    assert import_attribute(name) is function


def test_our_names_of_rqs_keys_are_rqs(harness: Harness) -> None:
    queue = queue_of(harness, "deliver-taker")

    assert keys.rq_queue(queue.name) == queue.key
    assert keys.rq_intermediate(queue.name) == queue.intermediate_queue_key
    assert keys.rq_started(queue.name) == queue.started_job_registry.key
    assert keys.rq_scheduled(queue.name) == queue.scheduled_job_registry.key
    assert keys.rq_failed(queue.name) == queue.failed_job_registry.key
    assert keys.job("x") == Job("x", connection=harness.connection).key
    assert Queue.redis_queues_keys == keys.RQ_QUEUES


def test_rq_knows_the_queues_and_rq_info_tells_their_lengths(harness: Harness) -> None:
    harness.accept(*statuses([str(n) for n in range(300)]))
    harness.expand()
    harness.accept(status(record("x")))

    output = subprocess.run(
        [str(Path(sys.executable).with_name("rq")), "info", "--url", harness.url, "--raw"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout

    assert {queue.name for queue in Queue.all(harness.connection)} == {"expand", "deliver-taker", "deliver-failing"}
    assert "queue expand 1" in output
    assert "queue deliver-taker 3" in output


def test_a_running_job_stands_where_rq_looks_for_it(harness: Harness) -> None:
    harness.accept(status(record("1")))
    harness.expand()
    seen: list[tuple[list[str], list[str], str, bytes]] = []

    @handler(ReportEvent, name="taker")
    def checking(event: ReportEvent) -> None:
        started = StartedJobRegistry("deliver-taker", connection=harness.connection, serializer=queues.JsonSerializer)
        (job_id,) = started.get_job_ids()
        (worker,) = BaseWorker.all(queue=queue_of(harness, "deliver-taker"), serializer=queues.JsonSerializer)
        (execution,) = worker.get_current_executions()
        job = Job.fetch(job_id, connection=harness.connection, serializer=queues.JsonSerializer)
        seen.append(
            (
                [job_id, str(job.worker_name), str(job.get_status())],
                [execution.job_id, worker.name, "JobStatus.STARTED"],
                worker.get_state(),
                harness.connection.lrange(keys.rq_intermediate("deliver-taker"), 0, -1),
            )
        )

    harness.deliver(checking)

    ((job, expected, state, intermediate),) = seen
    assert job == expected
    assert state == "busy"
    assert not intermediate
    assert harness.connection.hget(f"rq:worker:{expected[1]}", "successful_job_count") == b"1"


def test_a_worker_signs_off_and_leaves_no_trace(harness: Harness) -> None:
    harness.accept(status(record("1")))

    harness.expand()

    assert not BaseWorker.all(connection=harness.connection)
    assert all(harness.connection.ttl(key) > 0 for key in harness.connection.scan_iter("rq:worker:*"))


def test_a_busy_worker_is_not_forgotten_however_long_its_job_takes(harness: Harness) -> None:
    name = worker_name("deliver-taker")
    harness.accept(status(record("1")))
    harness.expand()
    keeper = harness.maintenance(taker)
    lifetimes: list[list[int]] = []

    @handler(ReportEvent, name="taker")
    def long(event: ReportEvent) -> None:
        kept = [f"rq:worker:{name}", f"rq:worker:{name}:executions"]
        for key in kept:
            harness.connection.expire(key, 5)  # its lifetime is almost over
        keeper.tick([name])
        lifetimes.append([harness.connection.ttl(key) for key in kept])

    harness.deliver(long, name=name)

    assert all(seconds > 60 for seconds in lifetimes[0])
    keeper.close()
