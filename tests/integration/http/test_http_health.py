"""/livez and /readyz, and callbacks while Redis is unavailable, hangs, or is not durable enough."""

from contextlib import suppress

import pytest
import redis

from tests.redis_server import RedisServer, StartRedis, free_port
from tests.web_process import StartWeb, WebProcess, kept, report, until


def checks(web: WebProcess) -> tuple[int, dict[str, dict[str, object]]]:
    with web.client() as client:
        answer = client.get("/readyz")
    return answer.status_code, answer.json()["checks"]


def failing(web: WebProcess) -> set[str]:
    """Return the names of the failed checks, after checking that the status agrees."""
    status, found = checks(web)
    names = {name for name, check in found.items() if not check["ok"]}
    assert (status == 503) == bool(names)
    return names


def refuses(web: WebProcess) -> bool:
    answer = web.post(report(1))
    assert answer.status_code in {200, 503}
    return (
        answer.status_code == 503
        and answer.json()["type"] == "urn:problem-type:callbacks:store-unavailable"
        and int(answer.headers["retry-after"]) > 0
    )


def without_waitaof(server: RedisServer) -> None:
    """Make a server of 7.2 or newer behave as an older one, without WAITAOF (see test_commit_waitaof.py)."""
    with server.client() as client, suppress(redis.ResponseError):
        client.execute_command("ACL", "SETUSER", "default", "-waitaof")


def alive(web: WebProcess) -> bool:
    with web.client() as client:
        return client.get("/livez").status_code == 200


def test_livez_and_readyz_are_200_if_everything_works(web: WebProcess) -> None:
    with web.client() as client:
        live, ready = client.get("/livez"), client.get("/readyz")
        assert (live.status_code, ready.status_code) == (200, 200)
        assert ready.json()["status"] == "ready"
        assert ready.json()["checks"]["appendfsync"] == {"ok": True, "detail": "always"}
        for path in ("/livez", "/readyz"):
            head = client.head(path)
            assert (head.status_code, head.content) == (200, b"")


def test_it_starts_without_redis_answers_503_and_recovers_by_itself(
    start_web: StartWeb, start_redis: StartRedis
) -> None:
    port = free_port()
    web = start_web(f"redis://127.0.0.1:{port}/0")
    assert alive(web)
    assert failing(web) == {"redis"}
    assert refuses(web)
    server = start_redis(port=port)
    until(web.ready)
    assert web.post(report(1)).status_code == 200
    assert len(kept(server)) == 1


def test_redis_killed_while_serving_means_503_until_it_is_back(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis()
    web = start_web(server)
    assert web.post(report(1)).status_code == 200
    server.kill()
    assert refuses(web)
    assert alive(web)
    assert failing(web) == {"redis"}
    server.restart()
    until(web.ready)
    assert web.post(report(2)).status_code == 200
    assert [callback.body.encode() for callback in kept(server)] == [report(1), report(2)]
    assert web.output.count("state=lost") == 1
    assert web.output.count("state=held") == 2


def test_a_redis_that_hangs_delays_one_commit_and_the_rest_are_refused_at_once(
    start_web: StartWeb, start_redis: StartRedis
) -> None:
    server = start_redis()
    web = start_web(server)
    assert web.post(report(1)).status_code == 200
    server.pause()
    try:
        assert refuses(web)
        for _ in range(20):
            assert refuses(web)
        assert alive(web)
        assert failing(web) == {"redis"}
    finally:
        server.resume()
    until(web.ready)
    assert web.post(report(2)).status_code == 200


@pytest.mark.parametrize(
    ("parameter", "bad", "good"),
    [
        ("appendfsync", "no", "always"),
        ("appendfsync", "everysec", "always"),
        ("appendonly", "no", "yes"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
    ],
)
def test_below_its_level_nothing_is_committed_and_readyz_names_the_check(
    start_web: StartWeb, start_redis: StartRedis, parameter: str, bad: str, good: str
) -> None:
    server = start_redis({parameter: bad})
    without_waitaof(server)
    web = start_web(server)
    check = parameter.removeprefix("no-").removesuffix("-on-rewrite").replace("-", "_")
    assert failing(web) == {check}
    assert checks(web)[1][check]["remedy"]
    assert refuses(web)
    assert kept(server) == []
    with server.client() as client:
        client.config_set(parameter, good)
    until(web.ready)
    assert web.post(report(1)).status_code == 200
    # One line for each change, none for each request.
    assert web.output.count("action=durability ") == 2


def test_a_level_that_is_lost_while_serving_is_reported(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis()
    web = start_web(server)
    assert web.ready()
    with server.client() as client:
        client.config_set("appendfsync", "no")
    until(lambda: not web.ready())
    assert failing(web) == {"appendfsync"}
    assert refuses(web)


def test_a_replica_gets_no_callbacks(start_web: StartWeb, start_redis: StartRedis) -> None:
    primary = start_redis()
    replica = start_redis({"replicaof": f"127.0.0.1 {primary.port}"})
    web = start_web(replica)
    assert "role" in failing(web)
    assert refuses(web)


def test_if_config_is_forbidden_info_counts_and_the_unverified_check_is_reported(
    start_web: StartWeb, start_redis: StartRedis
) -> None:
    server = start_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
    web = start_web(server)
    assert failing(web) == set()
    assert "unknown, as CONFIG is forbidden" in str(checks(web)[1]["appendfsync"])
    assert web.post(report(1)).status_code == 200
    assert web.output.count("action=durability_unverified") == 1


def test_level_memory_accepts_any_redis_with_a_warning(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis({"appendonly": "no", "maxmemory-policy": "allkeys-lru"})
    web = start_web(server, CALLBACKS_DURABILITY="memory")
    assert failing(web) == set()
    assert web.post(report(1)).status_code == 200
    assert "level=warning logger=callbacks.web" in web.output
    assert "action=durability_memory" in web.output


def test_a_wrong_password_is_reported_as_such(start_web: StartWeb, start_redis: StartRedis) -> None:
    server = start_redis({"requirepass": "right"})
    assert isinstance(server, RedisServer)
    web = start_web(f"redis://:wrong@127.0.0.1:{server.port}/0")
    assert failing(web) == {"redis"}
    assert "AuthenticationError" in str(checks(web)[1]["redis"]["detail"])
    assert refuses(web)
    assert "wrong" not in web.output.replace("wrong password", "")
