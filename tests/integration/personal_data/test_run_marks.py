"""Runs of `forget` that overlap or were interrupted: each ends its own, and those that it made good."""

from tests.redis_server import RedisServer
from workers.personal_data.run_marks import RunMarks


def test_a_run_makes_good_one_that_was_interrupted_before(quick_redis: RedisServer) -> None:
    with quick_redis.client() as client:
        assert not RunMarks(client).begin()
        later = RunMarks(client)
        assert later.begin()
        later.end()

        assert not RunMarks(client).begin()


def test_a_run_leaves_the_mark_of_one_that_began_later_or_goes_on(quick_redis: RedisServer) -> None:
    with quick_redis.client() as client:
        earlier, run, later = (RunMarks(client) for _ in range(3))
        for each in (earlier, run, later):
            each.begin()
        earlier.renew()
        run.end()
        later.end()

        assert RunMarks(client).begin()
        earlier.end()
