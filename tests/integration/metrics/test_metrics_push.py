"""Figures of several processes in one Redis: they add up, once, whatever happens to Redis or to a process."""

import contextlib
import os
import signal
import time

import pytest
import redis

from callbacks.ops.status import snapshot_reader
from shared import connections, failing_loops, keys
from shared.background import Background
from shared.metrics import MAX_UNKNOWN_STATUSES, OTHER, UNKNOWN_STATUS, Metrics
from shared.metrics_push import STATE_SECONDS, MetricsPush
from tests.redis_server import RedisServer, StartRedis, free_port
from tests.web_process import StartWeb, report, until


def pushed(server: RedisServer) -> dict[str, int]:
    with server.client() as client:
        return {name: int(number) for name, number in client.hgetall(keys.METRICS).items()}


def received(server: RedisServer) -> int:
    return pushed(server).get("accepted|report|gateway", 0)


def test_what_several_processes_count_adds_up_and_each_growth_is_told_once(redis_server: RedisServer) -> None:
    one, two = Metrics(), Metrics()
    first, second = MetricsPush(one, redis_server.url), MetricsPush(two, redis_server.url)
    one.add(("responses", 200), 5)
    two.add(("responses", 200), 7)
    for _ in range(3):
        first.push()
        second.push()
    one.add(("responses", 200))
    one.histogram(("commit",), (0.5,)).observe(0.25)
    first.close()
    second.close()
    assert pushed(redis_server) == {"responses|200": 13, "commit|le|0.5": 1, "commit|sum": 250_000}


def test_unknown_statuses_of_all_processes_together_are_bounded_and_none_is_lost(redis_server: RedisServer) -> None:
    for process in range(3):
        metrics = Metrics()
        for number in range(MAX_UNKNOWN_STATUSES):
            metrics.add((UNKNOWN_STATUS, f"S{process}{number}"))
        metrics.add((UNKNOWN_STATUS, "S00"))
        metrics.add((UNKNOWN_STATUS, OTHER))
        MetricsPush(metrics, redis_server.url).close()

    found = pushed(redis_server)
    assert len(found) == MAX_UNKNOWN_STATUSES + 1
    assert sum(found.values()) == 3 * (MAX_UNKNOWN_STATUSES + 2)
    assert found[f"{UNKNOWN_STATUS}|S00"] == 4
    assert found[f"{UNKNOWN_STATUS}|{OTHER}"] == 3 + 2 * MAX_UNKNOWN_STATUSES


def test_a_telling_whose_answer_was_lost_is_repeated_and_added_once(start_redis: StartRedis) -> None:
    server = start_redis()
    metrics = Metrics()
    metrics_push = MetricsPush(metrics, server.url)
    metrics.add(("responses", 200))
    metrics_push.push()
    metrics.add(("responses", 200), 5)
    server.pause()
    with pytest.raises(redis.RedisError):
        metrics_push.push()
    server.resume()
    until(lambda: pushed(server) == {"responses|200": 6})  # it has come through, and nobody knows
    metrics.add(("responses", 200), 10)
    metrics_push.push()
    metrics_push.push()
    assert pushed(server) == {"responses|200": 16}
    metrics_push.close()


def test_what_was_counted_while_redis_was_unavailable_is_told_when_it_is_back(start_redis: StartRedis) -> None:
    server = start_redis()
    metrics = Metrics()
    metrics_push = MetricsPush(metrics, server.url)
    metrics.add(("responses", 200))
    metrics_push.push()
    server.kill()
    for _ in range(3):
        metrics.add(("responses", 503))
        with pytest.raises(redis.RedisError):
            metrics_push.push()
    server.start()
    metrics_push.close()
    assert pushed(server) == {"responses|200": 1, "responses|503": 3}


def test_a_process_ends_though_redis_never_comes_back() -> None:
    metrics_push = MetricsPush(Metrics(), f"redis://127.0.0.1:{free_port()}", state=dict)
    metrics_push.start()
    metrics_push.close()


def test_everything_but_the_figures_has_a_lifetime_and_a_state_goes_with_its_process(
    redis_server: RedisServer,
) -> None:
    metrics_push = MetricsPush(Metrics(), redis_server.url, state=lambda: {"state": "drained"})
    metrics_push.push()
    with connections.connect(redis_server.url) as client:
        assert client.zcard(keys.METRICS_PROCESSES) == 1
        ours = list(client.scan_iter(f"{keys.METRICS}:*"))
        assert len(ours) == 2
        assert all(0 < client.ttl(key) <= keys.DAY_SECONDS for key in ours)
        metrics_push.close()
        assert client.zcard(keys.METRICS_PROCESSES) == 0
    assert STATE_SECONDS < keys.DAY_SECONDS


def test_two_web_processes_add_up_and_one_that_is_killed_takes_nothing_that_was_told(
    redis_server: RedisServer, start_web: StartWeb
) -> None:
    one, two = start_web(redis_server), start_web(redis_server)
    for number in range(12):
        assert (one, two)[number % 2].post(report(number)).status_code == 200
    until(lambda: received(redis_server) == 12)
    two.stop(signal.SIGKILL)
    for number in range(12, 20):
        assert one.post(report(number)).status_code == 200
    one.post(b"no JSON")
    # Its end tells what was not told yet.
    assert one.stop() == 0
    found = pushed(redis_server)
    assert found["accepted|report|gateway"] == 21  # what is no JSON is kept as well, in the quarantine
    assert found["responses|200"] == 20
    assert found["responses|400"] == 1
    assert sum(number for name, number in found.items() if name.startswith("acknowledged|le")) == 20
    assert sum(number for name, number in found.items() if name.startswith("batch|le")) <= 21


def test_a_web_process_tells_after_redis_was_unavailable_what_it_refused_meanwhile(
    start_redis: StartRedis, start_web: StartWeb
) -> None:
    server = start_redis()
    web = start_web(server)
    assert web.post(report(1)).status_code == 200
    until(lambda: received(server) == 1)
    server.kill()
    for number in range(3):
        assert web.post(report(number)).status_code == 503
    server.start()
    until(web.ready)
    assert web.post(report(4)).status_code == 200
    until(lambda: received(server) == 2)
    assert pushed(server)["responses|503"] == 3


def test_a_killed_process_is_no_longer_among_those_that_tell_their_state(redis_server: RedisServer) -> None:
    gone, here = (
        MetricsPush(Metrics(), redis_server.url, state=lambda: {"state": "drained"}),
        MetricsPush(Metrics(), redis_server.url, state=lambda: {"state": "drained"}),
    )
    gone.push()
    with redis_server.client() as client:
        [(name, _)] = client.zrange(keys.METRICS_PROCESSES, 0, -1, withscores=True)
        client.zadd(keys.METRICS_PROCESSES, {name: time.time() - keys.DAY_SECONDS - 60})
        here.push()
        assert name not in client.zrange(keys.METRICS_PROCESSES, 0, -1)
        assert client.zcard(keys.METRICS_PROCESSES) == 1
    for metrics_push in (gone, here):
        with contextlib.suppress(redis.RedisError):
            metrics_push.close()


def test_a_push_that_fails_by_what_nobody_foresaw_is_repeated_and_named(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.metrics_push.PUSH_SECONDS", 0.01)
    metrics, work = Metrics(), Background()
    snapshot, calls = metrics.snapshot, [0]

    def changed_meanwhile() -> dict[str, int]:
        calls[0] += 1
        if calls[0] <= 4:
            raise RuntimeError("dictionary changed size during iteration")
        return snapshot()

    monkeypatch.setattr(metrics, "snapshot", changed_meanwhile)
    metrics_push = MetricsPush(metrics, redis_server.url, background=work)
    metrics.add(("responses", 200))
    metrics_push.start()
    until(lambda: work.failing() == {"metrics_push": "RuntimeError"})
    until(lambda: pushed(redis_server) == {"responses|200": 1})
    until(lambda: work.failing() == {})
    metrics_push.close()


def fail() -> dict[str, int]:
    raise KeyError("nobody foresaw it")


def test_the_end_of_a_process_goes_on_though_its_last_push_fails(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    metrics_push = MetricsPush(metrics, redis_server.url)
    monkeypatch.setattr(metrics, "snapshot", fail)
    metrics_push.close()


def test_what_keeps_failing_in_a_process_is_told_and_is_gone_when_it_works_again(redis_server: RedisServer) -> None:
    work = Background()
    metrics_push = MetricsPush(Metrics(), redis_server.url, background=work)
    leases = work.loop("maintenance_leases")
    with connections.connect(redis_server.url) as client:
        metrics_push.push()
        assert failing_loops.list_failing_loops(client) == []
        assert client.zcard(keys.METRICS_PROCESSES) == 0, "who has nothing to say has no state"
        for _ in range(2):
            leases.attempt(fail)
        metrics_push.push()
        (found,) = failing_loops.list_failing_loops(client)
        assert (found.loop, found.error) == ("maintenance_leases", "KeyError")
        assert found.process.endswith(f":{os.getpid()}")
        assert snapshot_reader.read_snapshot(client, "fsync").failing == (found,)
        leases.succeeded()
        metrics_push.push()
        assert failing_loops.list_failing_loops(client) == []
        assert client.zcard(keys.METRICS_PROCESSES) == 0
    metrics_push.close()
