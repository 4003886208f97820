"""CALLBACKS_DURABILITY=managed: a Redis that hides its configuration and has no append-only file, said loudly."""

from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest

from callbacks.ops.prometheus import ServiceCollector
from shared import connections
from tests.acceptance.processes import run
from tests.integration.spool.spool_checks import configure, readiness
from tests.redis_server import RedisServer, StartRedis
from tests.web_process import TOKEN, StartWeb, kept, report, until


@pytest.fixture
def server(start_redis: StartRedis) -> RedisServer:
    """Return a server as providers have them: without an append-only file, and with CONFIG refused."""
    server = start_redis({"appendonly": "no", "appendfsync": "everysec"})
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "tenant", "on", "nopass", "~*", "&*", "+@all", "-config", "-bgrewriteaof"
        )
    return server


def url(server: RedisServer) -> str:
    return f"redis://tenant:any@127.0.0.1:{server.port}/0"


def test_callbacks_are_accepted_and_each_view_warns(server: RedisServer, start_web: StartWeb, tmp_path: Path) -> None:
    web = start_web(url(server), CALLBACKS_DURABILITY="managed")
    until(web.ready)
    assert web.post(report(1)).status_code == 200
    assert len(kept(server)) == 1

    document = readiness(web)
    assert document["durability"] == "managed"
    assert "cannot check" in document["checks"]["managed"]["detail"]
    assert web.output.count("action=durability_managed") == 1
    assert web.output.count('action=durability_unverified check="managed') == 1
    assert "action=started durability=managed" in web.output

    with connections.connect(url(server)) as client:
        exposed = generate_latest(ServiceCollector(client, "managed")).decode()
    assert "callbacks_redis_durable 1.0" in exposed
    assert 'callbacks_redis_durability_check_assumed{check="managed"} 1.0' in exposed
    assert 'callbacks_redis_durability_check_assumed{check="role"} 0.0' in exposed

    environment = {"REDIS_URL": url(server), "CALLBACKS_TOKENS": f"main={TOKEN}", "CALLBACKS_DURABILITY": "managed"}
    checked = run("check", "--json", cwd=tmp_path, environment=environment)
    assert checked.returncode == 0, checked.stdout
    advice = [finding["what"] for finding in msgspec.json.decode(checked.stdout) if finding["state"] == "advice"]
    assert "CALLBACKS_DURABILITY=managed: a 200 is as durable as the provider of Redis promises" in advice


def test_without_it_such_a_server_is_not_used(server: RedisServer, start_web: StartWeb) -> None:
    web = start_web(url(server), CALLBACKS_SPOOL_DIR="")
    assert web.post(report(1)).status_code == 503
    assert not readiness(web)["checks"]["appendonly"]["ok"]


def test_what_the_server_shows_to_be_wrong_sends_callbacks_to_the_spool(
    server: RedisServer, start_web: StartWeb, tmp_path: Path
) -> None:
    web = start_web(url(server), CALLBACKS_DURABILITY="managed", CALLBACKS_SPOOL_DIR=str(tmp_path / "spool"))
    until(web.ready)
    configure(server, "maxmemory-policy", "allkeys-lru")
    until(lambda: not readiness(web)["checks"]["maxmemory_policy"]["ok"])
    assert web.post(report(1)).status_code == 200
    assert kept(server) == []
    configure(server, "maxmemory-policy", "noeviction")
    until(lambda: len(kept(server)) == 1)
