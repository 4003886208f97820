"""The last hour in a real Redis: processes add to it as they tell their figures, once, and it stays small."""

import json
import time

import pytest
import redis

from shared import connections, keys, recent_rate, ring_buffer
from shared.metrics import SECONDS_BUCKETS, Metrics
from shared.metrics_push import MetricsPush
from tests.redis_server import RedisServer, StartRedis
from tests.web_process import until


def hour(server: RedisServer) -> dict[int, dict[str, int]]:
    """Return what is held, by bucket."""
    with server.client() as client:
        held = [json.loads(text) for text in client.hgetall(keys.RECENT_RATE).values()]
    return {counts.pop("bucket"): counts for counts in held}


def total(server: RedisServer) -> int:
    return sum(counts.get("callbacks", 0) for counts in hour(server).values())


def add(server: RedisServer, *, ended: float = 0, seconds: float = 0, now: float | None = None, **grown: int) -> None:
    """Add to the hour what grew in `seconds` that ended `ended` seconds before the time `now`."""
    times = "tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])"
    size = f"{recent_rate.RING.slots}, {recent_rate.RING.bucket_seconds}"
    script = f"{ring_buffer.ADD_LUA}\nadd_to_ring(KEYS[1], {size}, {times}, 4, #ARGV)"
    words = [word for pair in grown.items() for word in pair]
    with connections.connect(server.url) as client:
        numbers = [time.time() if now is None else now, ended, seconds]
        client.register_script(script)(keys=[keys.RECENT_RATE], args=[*numbers, *words])


def test_callbacks_and_times_of_all_processes_add_up(redis_server: RedisServer) -> None:
    one, two = Metrics(), Metrics()
    pushes = [MetricsPush(one, redis_server.url), MetricsPush(two, redis_server.url)]
    for metrics, number in ((one, 5), (two, 7)):
        metrics.add(("accepted", "report", "gateway"), number)
        metrics.histogram(("acknowledged",), SECONDS_BUCKETS).observe(0.004, number)
    for metrics_push in pushes:
        metrics_push.close()
    counts = list(hour(redis_server).values())
    assert sum(held["callbacks"] for held in counts) == sum(held["le|0.005"] for held in counts) == 12


def test_a_telling_that_is_repeated_is_in_the_hour_once(start_redis: StartRedis) -> None:
    server = start_redis()
    metrics = Metrics()
    metrics_push = MetricsPush(metrics, server.url)
    metrics.add(("accepted", "report", "gateway"), 1)
    metrics_push.push()  # and Redis has the script
    metrics.add(("accepted", "report", "gateway"), 5)
    server.pause()
    with pytest.raises(redis.RedisError):
        metrics_push.push()
    server.resume()
    until(lambda: total(server) == 6)  # it has come through, and nobody knows
    metrics.add(("accepted", "report", "gateway"), 2)
    metrics_push.push()
    metrics_push.push()
    assert total(server) == 8
    metrics_push.close()


def test_what_grew_while_redis_was_unavailable_is_spread_over_that_time(redis_server: RedisServer) -> None:
    add(redis_server, now=100_000, seconds=60, ended=25, callbacks=1000)

    found = hour(redis_server)

    assert sorted(found) == [9991, 9992, 9993, 9994, 9995, 9996, 9997]
    assert sum(held["callbacks"] for held in found.values()) == 1000
    assert {held["callbacks"] for held in found.values()} <= {142, 143}


def test_a_few_callbacks_of_a_long_time_are_all_there(redis_server: RedisServer) -> None:
    add(redis_server, now=100_000, seconds=600, callbacks=3)

    assert total(redis_server) == 3


def test_of_more_than_an_hour_only_the_hour_is_kept(redis_server: RedisServer) -> None:
    add(redis_server, now=100_000, seconds=3 * 3600, callbacks=3 * 3601)

    found = hour(redis_server)

    assert len(found) == recent_rate.RING.slots
    assert min(found) == 10_000 - recent_rate.RING.slots + 1
    assert {held["callbacks"] for held in found.values()} <= {9, 10}


def test_what_is_told_hours_late_takes_the_place_of_nothing_newer(redis_server: RedisServer) -> None:
    add(redis_server, now=100_000, callbacks=5)
    add(redis_server, now=100_000, ended=2 * recent_rate.RING.lifetime_seconds, callbacks=2)

    assert hour(redis_server) == {10_000: {"callbacks": 5}}


def test_a_slot_is_used_again_and_nothing_of_the_hour_before_stays_in_it(redis_server: RedisServer) -> None:
    add(redis_server, now=100_000, callbacks=5)
    add(redis_server, now=100_000 + recent_rate.RING.lifetime_seconds, callbacks=2)

    assert hour(redis_server) == {10_000 + recent_rate.RING.slots: {"callbacks": 2}}


def test_it_stays_small_with_every_slot_and_every_bound_used_and_goes_an_hour_after_the_last(
    redis_server: RedisServer,
) -> None:
    all_bounds = {f"le|{bound}": 99_999 for bound in (*SECONDS_BUCKETS, "+Inf")}
    for bucket in range(2 * recent_rate.RING.slots):
        add(redis_server, now=100_000 + 10 * bucket, callbacks=999_999, **all_bounds)
    with redis_server.client() as client:
        assert client.hlen(keys.RECENT_RATE) == recent_rate.RING.slots
        used_bytes = client.memory_usage(keys.RECENT_RATE, samples=0)
        assert isinstance(used_bytes, int)
        assert used_bytes < 150_000
        assert 3600 <= client.ttl(keys.RECENT_RATE) <= recent_rate.RING.lifetime_seconds


def test_a_process_that_counts_nothing_of_it_leaves_no_hour(redis_server: RedisServer) -> None:
    metrics = Metrics()
    metrics_push = MetricsPush(metrics, redis_server.url, state=dict)
    metrics.add(("retried", "log"))
    metrics_push.close()
    with redis_server.client() as client:
        assert set(client.hkeys(keys.METRICS)) == {"retried|log", "last_retried_at|log"}
        assert not client.exists(keys.RECENT_RATE)
