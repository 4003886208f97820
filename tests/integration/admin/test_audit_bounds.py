"""An audit that anybody may ask for reads a bounded number of jobs, however many wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from callbacks.ops.status import audit_cache
from callbacks.ops.status.audit_cache import AuditCache
from shared import audit, connections, keys, queues
from tests.redis_server import RedisServer

LIMIT = 1000


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with connections.connect(redis_server.url) as client:
        yield client


def add(client: redis.Redis, queue: str, ids: range) -> None:
    """Add these jobs to a queue, with one record each."""
    with client.pipeline(transaction=False) as pipe:
        for number in ids:
            pipe.hset(keys.job(f"j{number}"), "items", 1)
            pipe.rpush(keys.rq_queue(queue), f"j{number}")
        pipe.execute()


def jobs_read(client: redis.Redis) -> int:
    """Return how many jobs were read since Redis's counters were reset."""
    commands: Any = client.info("commandstats")
    return int(commands.get("cmdstat_hmget", {}).get("calls", 0))


@contextmanager
def something_moving(server: RedisServer) -> Iterator[None]:
    """Change a counter all the time."""
    ended, begun = threading.Event(), threading.Event()

    def move() -> None:
        with server.client() as other:
            while not ended.is_set():
                other.hincrby(keys.COUNTS, "report.duplicate", 1)
                begun.set()

    thread = threading.Thread(target=move)
    thread.start()
    begun.wait()
    yield
    ended.set()
    thread.join()


def test_as_many_jobs_as_allowed_are_counted(client: redis.Redis) -> None:
    add(client, queues.EXPAND, range(LIMIT))

    assert audit.run(client, max_jobs=LIMIT).waiting == LIMIT


def test_no_job_is_read_if_there_are_more_than_allowed(client: redis.Redis) -> None:
    add(client, queues.EXPAND, range(50 * LIMIT))
    client.config_resetstat()

    with pytest.raises(audit.TooManyJobs, match="callbacks audit"):
        audit.run(client, max_jobs=LIMIT)

    assert jobs_read(client) == 0
    sent: Any = client.info("stats")
    assert sent["total_net_output_bytes"] < 50 * LIMIT


def test_jobs_of_all_queues_and_coalesced_jobs_count(client: redis.Redis) -> None:
    client.hset(keys.COUNTS, "report.queued:crm", 1)
    add(client, queues.EXPAND, range(LIMIT // 2))
    add(client, queues.delivery_queue("crm"), range(LIMIT // 2, LIMIT))
    assert audit.run(client, max_jobs=LIMIT).pending == LIMIT

    client.rpush(keys.coalesced("j7"), *(f"coalesced-{number}" for number in range(LIMIT)))
    client.config_resetstat()
    with pytest.raises(audit.TooManyJobs):
        audit.run(client, max_jobs=LIMIT)
    assert jobs_read(client) <= LIMIT


def test_while_something_moves_all_tries_together_read_no_more_than_allowed(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    add(client, queues.EXPAND, range(LIMIT // 2 + 1))
    client.config_resetstat()

    with something_moving(redis_server):
        sums = audit.run(client, max_jobs=LIMIT)

    assert (sums.moving, sums.waiting) == (True, LIMIT // 2 + 1)
    assert jobs_read(client) == LIMIT // 2 + 1


def test_without_a_limit_all_are_read(client: redis.Redis) -> None:
    add(client, queues.EXPAND, range(3 * LIMIT))

    assert audit.run(client).waiting == 3 * LIMIT


def test_metrics_keep_their_last_balance_if_too_many_jobs_were_coalesced(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_cache, "MAX_JOBS", LIMIT)
    cache = AuditCache(client, every_seconds=0)
    add(client, queues.EXPAND, range(10))
    before = cache.get(10)
    assert before is not None

    client.rpush(keys.coalesced("j7"), *(f"coalesced-{number}" for number in range(LIMIT)))
    client.config_resetstat()
    now = AuditCache(client, every_seconds=0).get(10), cache.get(10)

    assert now[0] is None
    assert now[1] is not None
    assert now[1].difference == before.difference
    assert jobs_read(client) <= LIMIT
