"""Redis is unavailable for a moment, whatever a worker is doing: it waits, and works on. It does not end.

A worker that ended would be started again and again while Redis is unavailable, after up to 10 s, each time with a line
in the log and a new lifespan of its handler.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeAlias

import pytest
import redis
from rq.worker import WorkerStatus

from shared import connections, keys, queues
from tests.integration import faults, recorders
from tests.integration.harness import Harness, open_harness, record, status
from tests.redis_server import RedisServer
from workers.deliver import prefetch
from workers.expand import expansion
from workers.runtime import redis_retry
from workers.runtime import worker as workers
from workers.runtime.maintenance import Maintenance

Lost: TypeAlias = Literal["commands", "answers"]
_NEVER: Final = 1_000_000
QUEUE: Final = queues.delivery_queue("single")

# redis-py's connections carry no types.
_Connection: Any = redis.Connection


class Interrupted(_Connection):  # type: ignore[misc]
    """A connection that breaks at one exchange, and at the next two, counted over all connections."""

    number: ClassVar[int]
    first_pop: ClassVar[int]
    at: ClassVar[int]
    lost: ClassVar[Lost]
    _breaks = False

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        Interrupted.number += 1
        if b"LMOVE" in b"".join(command):
            Interrupted.first_pop = min(Interrupted.first_pop, Interrupted.number)
        self._breaks = Interrupted.at <= Interrupted.number < Interrupted.at + 3
        if self._breaks and Interrupted.lost == "commands":
            self._break()
        super().send_packed_command(command, check_health)

    def read_response(self, *args: Any, **options: Any) -> Any:
        answer = super().read_response(*args, **options)
        if self._breaks:
            self._break()
        return answer

    def _break(self) -> None:
        self.disconnect()
        raise redis.ConnectionError("cut")


@pytest.fixture
def harness(quick_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "recorded"))
    monkeypatch.setattr(workers, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(redis_retry, "_RETRY_SECONDS", 0.0)
    for module in (expansion, prefetch):  # a run for each of the jobs
        monkeypatch.setattr(module, "MAX_ITEMS", 1)
    faults.check_at_once(monkeypatch)
    with open_harness(quick_redis.url, *recorders.ALL) as made:
        yield made


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what each wait for a job brought. The last is None if the worker ended because nothing waits."""
    found: list[object] = []
    dequeue = workers.QueueWorker.dequeue_job_and_maintain_ttl

    def recorded(*arguments: Any) -> Any:
        found.append("a failure")
        found[-1] = dequeue(*arguments)
        return found[-1]

    monkeypatch.setattr(workers.QueueWorker, "dequeue_job_and_maintain_ttl", recorded)
    return found


def work(harness: Harness, queue: str, *, at: int = _NEVER, lost: Lost = "commands") -> range:
    """Work until nothing waits, while Redis is unavailable from the exchange `at` on.

    Return the exchanges from the first that pops a job on. What precedes it is the start of a worker.
    """
    Interrupted.number, Interrupted.first_pop, Interrupted.at, Interrupted.lost = 0, _NEVER, at, lost
    connection = connections.connect(harness.url)
    connection.connection_pool.connection_class = Interrupted
    if queue == queues.EXPAND:
        harness.expand(connection=connection)
    else:
        harness.deliver(recorders.single, connection=connection)
    return range(Interrupted.first_pop, Interrupted.number + 1)


def give_back_orphans(harness: Harness, queue: str) -> None:
    """Do what a supervisor does for a job that a worker popped and could not start."""
    with closing(Maintenance([queue], connection=harness.connection, journals=faults.journals())) as maintenance:
        maintenance.tick([])
        maintenance.tick([])


@pytest.mark.parametrize("lost", ["commands", "answers"])
@pytest.mark.parametrize("queue", [queues.EXPAND, QUEUE])
def test_no_moment_ends_a_worker_or_counts_as_the_death_of_a_job(
    harness: Harness, ends: list[object], queue: str, lost: Lost
) -> None:
    def prepare() -> None:
        harness.connection.flushall()
        Path(os.environ[recorders.VARIABLE]).unlink(missing_ok=True)
        for message_id in ("a", "b"):
            harness.accept(status(record(message_id)))
            if queue == QUEUE:
                harness.expand()
        ends.clear()

    prepare()
    exchanges = work(harness, queue)
    assert len(exchanges) > 8, "to pop, start, claim and end two jobs, at the least"

    for at in exchanges:
        prepare()
        work(harness, queue, at=at, lost=lost)
        assert ends[-1] is None, f"it ended: {lost} were lost from exchange {at} of {exchanges} on"

        give_back_orphans(harness, queue)
        for job in harness.connection.scan_iter(keys.job("*")):
            assert not harness.connection.hexists(job, "deaths")
        work(harness, queue)
        assert harness.audit().balances
        assert len(harness.waiting_jobs(queue)) == 0
        assert [*recorders.calls("single").values()] == ([1, 1] if queue == QUEUE else [])


def test_a_worker_that_stops_without_an_answer_to_a_start_gives_the_job_back(harness: Harness) -> None:
    # Its registration is gone with it, so otherwise the job waits until the lease ends, and that counts as a death.
    for message_id in ("a", "b"):
        harness.accept(status(record(message_id)))
        harness.expand()
    harness.deliver(recorders.single, max_jobs=1)  # by now Redis knows the script that starts a job
    Interrupted.number, Interrupted.first_pop, Interrupted.at, Interrupted.lost = 0, _NEVER, _NEVER, "answers"
    connection = connections.connect(harness.url)
    connection.connection_pool.connection_class = Interrupted
    worker = harness.worker(QUEUE, connection=connection)
    popped = worker.dequeue_job_and_maintain_ttl(None)
    assert popped is not None

    Interrupted.at = Interrupted.number + 1
    worker.execute_job(*popped)
    assert harness.connection.zcard(keys.rq_started(QUEUE)) == 1, "only the answer was lost"
    Interrupted.at = _NEVER
    worker.request_stop(signal.SIGTERM, None)
    worker.teardown()

    assert harness.connection.lrange(keys.rq_queue(QUEUE), 0, -1) == [popped[0].id.encode()]


@pytest.fixture
def worker(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Iterator[workers.QueueWorker]:
    """Yield a worker with a job to do, in whose first wait for Redis that accepts commands again."""
    wait = workers.QueueWorker._wait_for_redis

    def accept_again(waiting: workers.QueueWorker, exc: redis.RedisError) -> None:
        wait(waiting, exc)
        harness.connection.config_set("min-replicas-to-write", 0)

    monkeypatch.setattr(workers.QueueWorker, "_wait_for_redis", accept_again)
    harness.accept(status(record("a")))
    harness.expand()
    made = harness.worker(QUEUE)
    made.register_birth()  # type: ignore[no-untyped-call]
    yield made
    harness.connection.config_set("min-replicas-to-write", 0)


def refuse_writes(harness: Harness) -> None:
    harness.connection.config_set("min-replicas-to-write", 1)


def test_a_redis_that_refuses_to_write_ends_no_worker(harness: Harness, worker: workers.QueueWorker) -> None:
    # As after a failover, and while its disk is full.
    refuse_writes(harness)
    popped = worker.dequeue_job_and_maintain_ttl(None)
    assert popped is not None

    refuse_writes(harness)
    worker.execute_job(*popped)
    assert harness.connection.lrange(keys.rq_intermediate(QUEUE), 0, -1) == [popped[0].id.encode()]


def test_an_outage_during_a_suspension_leaves_no_worker_suspended(
    harness: Harness, worker: workers.QueueWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: Iterator[Callable[[], object]] = iter(
        (lambda: refuse_writes(harness), lambda: None, lambda: harness.connection.delete("rq:suspended"))
    )
    monkeypatch.setattr(time, "sleep", lambda _seconds: next(steps)())
    worker.set_state(WorkerStatus.IDLE)
    harness.connection.set("rq:suspended", 1)

    worker.check_for_suspension(False)

    assert not harness.connection.exists("rq:suspended")
    assert harness.connection.hget(keys.rq_worker(worker.name), "state") == WorkerStatus.IDLE.encode()
