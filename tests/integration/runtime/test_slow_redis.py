"""A supervisor over a slow Redis: it shows that it lives, and keeps its workers' leases, however long a tick takes."""

import time
from contextlib import closing
from itertools import pairwise
from typing import Any, Final

import pytest

from shared import connections, keys, queues
from shared.liveness import Liveness
from shared.primary import PrimaryConnection
from tests.integration.harness import worker_name
from tests.redis_server import RedisServer
from workers.failures.retention import FailureTrimmer
from workers.runtime.job_transitions import JobTransitions
from workers.runtime.maintenance import Maintenance
from workers.runtime.supervisor import Supervisor
from workers.runtime.worker import LEASE_SECONDS

REPLY_SECONDS: Final = 1.2
HANDLERS: Final = [f"h{number}" for number in range(40)]
QUEUES: Final = [queues.EXPAND, *map(queues.delivery_queue, HANDLERS[:8])]
# An item takes a few exchanges. systemd, Kubernetes and compose wait for 60 s: room for replies that are slower by far.
MAX_GAP_SECONDS: Final = 6 * REPLY_SECONDS


class Beats(Liveness):
    """Those of a supervisor: they record when they were shown."""

    def __init__(self) -> None:
        super().__init__()
        self.at = [time.monotonic()]

    def beat(self) -> None:
        self.at.append(time.monotonic())


@pytest.fixture
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time pass with each exchange with Redis, and only so."""
    now = [1000.0]
    send: Any = PrimaryConnection.send_packed_command

    def sent(*arguments: Any, **options: Any) -> Any:
        now[0] += REPLY_SECONDS
        return send(*arguments, **options)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(PrimaryConnection, "send_packed_command", sent)


@pytest.mark.usefixtures("_slow")
def test_it_beats_and_renews_leases_within_a_tick(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with quick_redis.client() as client:
        client.hset(keys.COUNTS, mapping={keys.handler_counter(name, "report", "dead"): 1 for name in HANDLERS})
    connection = connections.connect(quick_redis.url)
    trimmer = FailureTrimmer(connection=connection, quarantine_max_bytes=1 << 20, dead_letter_max_bytes=1 << 20)
    maintenance = Maintenance(QUEUES, connection=connection, tasks={"maintenance_trimming": trimmer})
    beats = Beats()
    Supervisor(QUEUES, maintenance=maintenance, grace_seconds=1, liveness=beats)
    renewed = [time.monotonic()]
    first, *_ = workers = [worker_name(queue) for queue in QUEUES]
    list_executions: Any = JobTransitions.list_executions

    def listed(self: JobTransitions, worker: str) -> Any:
        if worker == first:
            renewed.append(time.monotonic())
        return list_executions(self, worker)

    monkeypatch.setattr(JobTransitions, "list_executions", listed)
    with closing(maintenance):
        maintenance._expire_at = 0.0
        for _ in range(3):
            maintenance.tick(workers)
        ended = time.monotonic()

    assert ended - 1000 > 2 * LEASE_SECONDS, "it is slow"
    assert _longest(beats.at, ended) < MAX_GAP_SECONDS
    assert _longest(renewed, ended) < LEASE_SECONDS


def test_one_that_hangs_does_not_beat(quick_redis: RedisServer) -> None:
    class Hanging:
        is_due = True

        def tick(self) -> None:
            before.append(len(beats.at))
            for _ in range(1000):
                connection.ping()
            before.append(len(beats.at))

    before: list[int] = []
    connection = connections.connect(quick_redis.url)
    maintenance = Maintenance(QUEUES, connection=connection, tasks={"hanging": Hanging()})
    beats = Beats()
    Supervisor(QUEUES, maintenance=maintenance, grace_seconds=1, liveness=beats)

    with closing(maintenance):
        maintenance.tick([])

    first, last = before
    assert first == last, "what goes on within one item is no sign of life"


def _longest(times: list[float], ended: float) -> float:
    return max(second - first for first, second in pairwise([*times, ended]))
