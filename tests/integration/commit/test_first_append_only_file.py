"""An append-only file counts once it is complete: before its first rewrite is done, nothing in it survives a crash."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import pytest
import redis

from shared import durability
from tests.acceptance.processes import run
from tests.redis_server import RedisServer, StartRedis, require_redis
from tests.web_process import TOKEN, StartWeb, kept, report, until

KEYS: Final = 1000
# A second for each key: the rewrite takes longer than any test, until its process is ended and the next one is quick.
SLOW: Final = {"rdb-key-save-delay": "1000000", "aof-use-rdb-preamble": "yes"}


def filled(server: RedisServer) -> RedisServer:
    with server.client() as client, client.pipeline() as pipe:
        pipe.mset({f"key:{number}": number for number in range(KEYS)})
        pipe.execute()
    return server


def begin(server: RedisServer) -> None:
    """Turn the append-only file on, as an operator does. Its first rewrite then never ends by itself."""
    with server.client() as client:
        client.config_set("appendonly", "yes")
        assert client.info("persistence")["aof_rewrite_in_progress"] == 1


def complete(server: RedisServer) -> None:
    """Let the rewrite end: kill the one under way, and make the next one quick."""
    with server.client() as client:
        client.config_set("rdb-key-save-delay", 0)
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)

        def is_complete() -> bool:
            persistence = client.info("persistence")
            if persistence["aof_base_size"] > 0:
                return not persistence["aof_rewrite_in_progress"]
            with suppress(redis.ResponseError):  # it runs already: Redis restarts a first one by itself
                client.bgrewriteaof()
            return False

        until(is_complete)


def start_again(server: RedisServer) -> None:
    """Start with an append-only file, whatever the configuration was before."""
    server.options["appendonly"] = "yes"
    server.start()


def failing(server: RedisServer) -> dict[str, str]:
    """Return the failed checks, with what was found."""
    with server.client() as client:
        pipe = client.pipeline(transaction=False)
        durability.query(pipe)
        found = durability.evaluate("fsync", pipe.execute(raise_on_error=False))
    return {finding.name: finding.detail for finding in found if not finding.ok}


def test_nothing_is_accepted_before_the_first_file_is_complete_and_callbacks_accepted_then_survive_a_crash(
    start_redis: StartRedis, start_web: StartWeb
) -> None:
    server = filled(start_redis({**SLOW, "appendonly": "no"}))
    begin(server)
    web = start_web(server, CALLBACKS_SPOOL_DIR="")
    with web.client() as client:
        until(lambda: "not complete" in str(client.get("/readyz").json()["checks"].get("appendonly")))
        assert client.get("/readyz").status_code == 503
    assert web.post(report(1)).status_code == 503
    complete(server)
    until(web.ready)
    assert web.post(report(2)).status_code == 200
    server.kill()
    start_again(server)
    assert [callback.body.encode() for callback in kept(server)] == [report(2)]


def test_a_crash_before_the_first_file_is_complete_loses_no_accepted_callback(
    start_redis: StartRedis, start_web: StartWeb, tmp_path: Path
) -> None:
    server = filled(start_redis({**SLOW, "appendonly": "no"}))
    begin(server)
    web = start_web(server, CALLBACKS_SPOOL_DIR=str(tmp_path / "spool"))
    for number in range(5):
        assert web.post(report(number)).status_code == 200
    server.kill()
    start_again(server)
    until(lambda: len(kept(server)) == 5)
    with server.client() as client:
        assert client.dbsize() < KEYS, "the crash lost what it was to lose"


def test_a_replica_promoted_before_its_own_file_is_complete_fails_the_check(start_redis: StartRedis) -> None:
    require_redis()
    primary = filled(start_redis())
    replica = start_redis({**SLOW, "replicaof": f"127.0.0.1 {primary.port}"})
    with replica.client() as client:
        until(lambda: client.info("replication")["master_link_status"] == "up")
        client.execute_command("REPLICAOF", "NO", "ONE")
    assert "not complete" in failing(replica)["appendonly"]
    complete(replica)
    assert not failing(replica)


def test_a_rewrite_that_waits_for_a_snapshot_is_not_complete_either(start_redis: StartRedis) -> None:
    server = filled(start_redis({**SLOW, "appendonly": "no"}))
    with server.client() as client:
        client.bgsave()
        client.config_set("appendonly", "yes")
        assert client.info("persistence")["aof_rewrite_scheduled"] == 1
    assert "not complete" in failing(server)["appendonly"]
    server.kill()


def test_a_file_that_existed_from_the_start_passes_during_a_rewrite(start_redis: StartRedis) -> None:
    server = filled(start_redis(SLOW))
    with server.client() as client:
        client.bgrewriteaof()
        persistence = client.info("persistence")
    assert (persistence["aof_rewrite_in_progress"], persistence["aof_base_size"]) == (1, 0)
    assert not failing(server)
    complete(server)
    with server.client() as client:
        client.config_set("rdb-key-save-delay", 1_000_000)
        client.bgrewriteaof()
        assert client.info("persistence")["aof_rewrite_in_progress"] == 1
    assert not failing(server)


def test_the_check_says_what_to_wait_for(start_redis: StartRedis, tmp_path: Path) -> None:
    server = filled(start_redis({**SLOW, "appendonly": "no"}))
    begin(server)
    environment = {"REDIS_URL": server.url, "CALLBACKS_TOKENS": f"main={TOKEN}"}
    ended = run("check", "--json", cwd=tmp_path, environment=environment)
    assert ended.returncode == 1
    (wrong,) = [finding for finding in msgspec.json.decode(ended.stdout) if finding["state"] == "wrong"]
    assert "not complete" in wrong["what"]
    assert "aof_rewrite_in_progress" in wrong["remedy"]
    server.kill()  # Redis does not stop while it writes its first file


@pytest.mark.parametrize("parameter", ["appendonly", "appendfsync", "maxmemory-policy"])
def test_a_remedy_survives_a_restart(start_redis: StartRedis, parameter: str) -> None:
    wrong = {"appendonly": "no", "appendfsync": "no", "maxmemory-policy": "allkeys-lru"}[parameter]
    server = start_redis({parameter: wrong})
    with server.client() as client:
        pipe = client.pipeline(transaction=False)
        durability.query(pipe)
        found = durability.evaluate("fsync", pipe.execute(raise_on_error=False))
    (remedy,) = [finding.remedy for finding in found if not finding.ok]
    assert remedy.startswith(f"CONFIG SET {parameter} ")
    assert "CONFIG REWRITE" in remedy
    assert "redis.conf" in remedy
