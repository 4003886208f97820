"""Figures of several processes in one Redis: they add up, once, whatever happens to Redis or to a process."""

import contextlib
import os
import signal
import time

import pytest
import redis

from callbacks.ops.figures import reading
from shared import connections, failing_loops, keys
from shared.background import Background
from shared.metrics import Figures
from shared.metrics_push import STATE_SECONDS, Telling
from tests.conftest import StartRedis
from tests.integration.conftest import StartWeb, report, until
from tests.redis_server import RedisServer, free_port


def told(server: RedisServer) -> dict[str, int]:
    with server.client() as client:
        return {name: int(number) for name, number in client.hgetall(keys.FIGURES).items()}


def received(server: RedisServer) -> int:
    return told(server).get("received|report|gateway", 0)


def test_what_several_processes_count_adds_up_and_each_growth_is_told_once(redis_server: RedisServer) -> None:
    one, two = Figures(), Figures()
    first, second = Telling(one, redis_server.url), Telling(two, redis_server.url)
    one.add(("answers", 200), 5)
    two.add(("answers", 200), 7)
    for _ in range(3):
        first.tell()
        second.tell()
    one.add(("answers", 200))
    one.histogram(("commit",), (0.5,)).observe(0.25)
    first.close()
    second.close()
    assert told(redis_server) == {"answers|200": 13, "commit|le|0.5": 1, "commit|sum": 250_000}


def test_a_telling_whose_answer_was_lost_is_repeated_and_added_once(start_redis: StartRedis) -> None:
    server = start_redis()
    figures = Figures()
    telling = Telling(figures, server.url)
    figures.add(("answers", 200))
    telling.tell()
    figures.add(("answers", 200), 5)
    server.pause()
    with pytest.raises(redis.RedisError):
        telling.tell()
    server.resume()
    until(lambda: told(server) == {"answers|200": 6})  # it has come through, and nobody knows
    figures.add(("answers", 200), 10)
    telling.tell()
    telling.tell()
    assert told(server) == {"answers|200": 16}
    telling.close()


def test_what_was_counted_while_redis_was_away_is_told_when_it_is_back(start_redis: StartRedis) -> None:
    server = start_redis()
    figures = Figures()
    telling = Telling(figures, server.url)
    figures.add(("answers", 200))
    telling.tell()
    server.kill()
    for _ in range(3):
        figures.add(("answers", 503))
        with pytest.raises(redis.RedisError):
            telling.tell()
    server.start()
    telling.close()
    assert told(server) == {"answers|200": 1, "answers|503": 3}


def test_a_process_ends_though_redis_never_comes_back() -> None:
    telling = Telling(Figures(), f"redis://127.0.0.1:{free_port()}", state=dict)
    telling.start()
    telling.close()


def test_everything_but_the_figures_has_a_lifetime_and_a_state_goes_with_its_process(
    redis_server: RedisServer,
) -> None:
    telling = Telling(Figures(), redis_server.url, state=lambda: {"state": "drained"})
    telling.tell()
    with connections.connect(redis_server.url) as client:
        assert client.zcard(keys.FIGURES_PROCESSES) == 1
        ours = list(client.scan_iter(f"{keys.FIGURES}:*"))
        assert len(ours) == 2
        assert all(0 < client.ttl(key) <= keys.DAY_SECONDS for key in ours)
        telling.close()
        assert client.zcard(keys.FIGURES_PROCESSES) == 0
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
    found = told(redis_server)
    assert found["received|report|gateway"] == 21  # what is no JSON is kept as well, in the quarantine
    assert found["answers|200"] == 20
    assert found["answers|400"] == 1
    assert sum(number for name, number in found.items() if name.startswith("acknowledged|le")) == 20
    assert sum(number for name, number in found.items() if name.startswith("batch|le")) <= 21


def test_a_web_process_tells_after_redis_was_away_what_it_refused_meanwhile(
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
    assert told(server)["answers|503"] == 3


def test_a_killed_process_is_no_longer_among_those_that_tell_their_state(redis_server: RedisServer) -> None:
    gone, here = (
        Telling(Figures(), redis_server.url, state=lambda: {"state": "drained"}),
        Telling(Figures(), redis_server.url, state=lambda: {"state": "drained"}),
    )
    gone.tell()
    with redis_server.client() as client:
        [(name, _)] = client.zrange(keys.FIGURES_PROCESSES, 0, -1, withscores=True)
        client.zadd(keys.FIGURES_PROCESSES, {name: time.time() - keys.DAY_SECONDS - 60})
        here.tell()
        assert name not in client.zrange(keys.FIGURES_PROCESSES, 0, -1)
        assert client.zcard(keys.FIGURES_PROCESSES) == 1
    for telling in (gone, here):
        with contextlib.suppress(redis.RedisError):
            telling.close()


def test_a_push_that_fails_by_what_nobody_foresaw_is_repeated_and_named(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.metrics_push.EVERY_SECONDS", 0.01)
    figures, work = Figures(), Background()
    snapshot, calls = figures.snapshot, [0]

    def changed_meanwhile() -> dict[str, int]:
        calls[0] += 1
        if calls[0] <= 4:
            raise RuntimeError("dictionary changed size during iteration")
        return snapshot()

    monkeypatch.setattr(figures, "snapshot", changed_meanwhile)
    telling = Telling(figures, redis_server.url, background=work)
    figures.add(("answers", 200))
    telling.start()
    until(lambda: work.failing() == {"metrics_push": "RuntimeError"})
    until(lambda: told(redis_server) == {"answers|200": 1})
    until(lambda: work.failing() == {})
    telling.close()


def fail() -> dict[str, int]:
    raise KeyError("nobody foresaw it")


def test_the_end_of_a_process_goes_on_though_its_last_push_fails(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = Figures()
    telling = Telling(figures, redis_server.url)
    monkeypatch.setattr(figures, "snapshot", fail)
    telling.close()


def test_what_keeps_failing_in_a_process_is_told_and_is_gone_when_it_works_again(redis_server: RedisServer) -> None:
    work = Background()
    telling = Telling(Figures(), redis_server.url, background=work)
    leases = work.loop("maintenance_leases")
    with connections.connect(redis_server.url) as client:
        telling.tell()
        assert failing_loops.failing(client) == []
        assert client.zcard(keys.FIGURES_PROCESSES) == 0, "who has nothing to say has no state"
        for _ in range(2):
            leases.attempt(fail)
        telling.tell()
        (found,) = failing_loops.failing(client)
        assert (found.loop, found.error) == ("maintenance_leases", "KeyError")
        assert found.process.endswith(f":{os.getpid()}")
        assert reading.read(client, "fsync").failing == (found,)
        leases.succeeded()
        telling.tell()
        assert failing_loops.failing(client) == []
        assert client.zcard(keys.FIGURES_PROCESSES) == 0
    telling.close()
