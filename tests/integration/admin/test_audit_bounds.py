"""Whoever may ask for the audit without a password has no more of Redis read than was allowed, whatever waits there."""

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

MOST = 1000


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with connections.connect(redis_server.url) as client:
        yield client


def add(client: redis.Redis, queue: str, ids: range) -> None:
    """Have so many jobs wait in a queue, of one record each."""
    with client.pipeline(transaction=False) as pipe:
        for number in ids:
            pipe.hset(keys.job(f"j{number}"), "items", 1)
            pipe.rpush(keys.rq_queue(queue), f"j{number}")
        pipe.execute()


def jobs_read(client: redis.Redis) -> int:
    """Return for how many jobs Redis was asked since its counters were set back."""
    commands: Any = client.info("commandstats")
    return int(commands.get("cmdstat_hmget", {}).get("calls", 0))


@contextmanager
def something_moving(server: RedisServer) -> Iterator[None]:
    """Change a counter without a pause."""
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


def test_as_many_jobs_as_are_allowed_are_added_up(client: redis.Redis) -> None:
    add(client, queues.EXPAND, range(MOST))

    assert audit.run(client, max_jobs=MOST).waiting == MOST


def test_of_more_than_are_allowed_none_is_read(client: redis.Redis) -> None:
    add(client, queues.EXPAND, range(50 * MOST))
    client.config_resetstat()

    with pytest.raises(audit.TooManyJobs, match="callbacks audit"):
        audit.run(client, max_jobs=MOST)

    assert jobs_read(client) == 0
    sent: Any = client.info("stats")
    assert sent["total_net_output_bytes"] < 50 * MOST


def test_jobs_of_all_queues_and_those_that_were_taken_along_count(client: redis.Redis) -> None:
    client.hset(keys.COUNTS, "report.queued:crm", 1)
    add(client, queues.EXPAND, range(MOST // 2))
    add(client, queues.delivery_queue("crm"), range(MOST // 2, MOST))
    assert audit.run(client, max_jobs=MOST).pending == MOST

    client.rpush(keys.coalesced("j7"), *(f"taken-{number}" for number in range(MOST)))
    client.config_resetstat()
    with pytest.raises(audit.TooManyJobs):
        audit.run(client, max_jobs=MOST)
    assert jobs_read(client) <= MOST


def test_while_things_move_all_tries_together_read_no_more_than_is_allowed(
    client: redis.Redis, redis_server: RedisServer
) -> None:
    add(client, queues.EXPAND, range(MOST // 2 + 1))
    client.config_resetstat()

    with something_moving(redis_server):
        sums = audit.run(client, max_jobs=MOST)

    assert (sums.moving, sums.waiting) == (True, MOST // 2 + 1)
    assert jobs_read(client) == MOST // 2 + 1


def test_without_a_bound_all_are_read(client: redis.Redis) -> None:
    add(client, queues.EXPAND, range(3 * MOST))

    assert audit.run(client).waiting == 3 * MOST


def test_metrics_keep_their_last_balance_where_running_jobs_took_too_many_along(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_cache, "MAX_JOBS", MOST)
    looking = AuditCache(client, every_seconds=0)
    add(client, queues.EXPAND, range(10))
    before = looking.get(10)
    assert before is not None

    client.rpush(keys.coalesced("j7"), *(f"taken-{number}" for number in range(MOST)))
    client.config_resetstat()
    now = AuditCache(client, every_seconds=0).get(10), looking.get(10)

    assert now[0] is None
    assert now[1] is not None
    assert now[1].difference == before.difference
    assert jobs_read(client) <= MOST
