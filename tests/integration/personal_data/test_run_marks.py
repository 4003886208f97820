"""Runs of `forget` that overlap or were interrupted: each ends its own, and those that it made good."""

from typing import Any

import redis

from shared import keys
from tests.redis_server import RedisServer
from workers.personal_data.run_marks import RunMarks


def make_old(client: redis.Redis) -> None:
    """Let all marks be as old as those of runs that were interrupted hours ago."""
    marks: Any = client.hkeys(keys.FORGETTING)
    client.hset(keys.FORGETTING, mapping=dict.fromkeys(marks, 1))


def test_a_run_makes_good_one_that_was_interrupted_before(quick_redis: RedisServer) -> None:
    with quick_redis.client() as client:
        assert not RunMarks(client).begin()
        make_old(client)
        later = RunMarks(client)
        assert later.begin()
        later.end()

        assert not RunMarks(client).begin()


def test_a_run_leaves_the_mark_of_one_that_is_long_in_one_store(quick_redis: RedisServer) -> None:
    with quick_redis.client() as client:
        long, short = RunMarks(client), RunMarks(client)
        long.begin()
        short.begin()
        short.end()

        # Were it killed now, the next one would have to overwrite what it erased.
        assert client.hlen(keys.FORGETTING) == 1
        long.end()
        assert not client.exists(keys.FORGETTING)


def test_a_run_leaves_the_mark_of_one_that_began_later_or_goes_on(quick_redis: RedisServer) -> None:
    with quick_redis.client() as client:
        earlier, run, later = (RunMarks(client) for _ in range(3))
        for each in (earlier, run, later):
            each.begin()
        make_old(client)
        earlier.renew()
        run.end()
        later.end()

        assert RunMarks(client).begin()
        earlier.end()
