"""The user `worker` of deploy/redis/users.conf may do all that `callbacks export` and `forget` do."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from callbacks.cli.main import main
from tests.deploy.redis_rights import denied, url, without
from tests.integration.failures.failure_lists import quarantined, refusing
from tests.integration.harness import open_harness, record, status
from tests.redis_server import RedisServer

NUMBER = "35699777123"
STREAM = "callbacks"


@pytest.fixture
def filled(restricted_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """Return a server with something in every store of Redis: a callback, a dead letter, a quarantine, a stream."""
    monkeypatch.chdir(tmp_path)
    with open_harness(restricted_redis.url, refusing) as harness, restricted_redis.client() as client:
        harness.accept(quarantined=[quarantined(1)])
        harness.accept(status(record("3", to=f"+{NUMBER}")))
        harness.expand()
        harness.deliver(refusing)
        harness.accept(status(record("1"), record("2", to=f"+{NUMBER}")))
        client.xgroup_create(STREAM, "readers", id="0", mkstream=True)
        for recipient in (NUMBER, "447700900123"):
            client.xadd(STREAM, {"event": json.dumps({"recipient": recipient})})
        client.xreadgroup("readers", "one", {STREAM: ">"})
    return restricted_redis


def run(server: RedisServer, *words: str) -> Result:
    environment = {"REDIS_URL": url(server, "worker"), "DATABASE_URL": "sqlite:///none.db"}
    return CliRunner(env=environment).invoke(main, words)


def test_all_that_export_and_forget_do_is_allowed(filled: RedisServer) -> None:
    exported, forgotten = run(filled, "export", NUMBER), run(filled, "forget", NUMBER, "--json")

    assert exported.exit_code == forgotten.exit_code == 0, exported.output + forgotten.output
    assert [item["store"] for item in json.loads(exported.stdout)["items"]] == ["waiting", "failures", "stream"]
    erased = {store["store"]: store["erased"] for store in json.loads(forgotten.stdout)["stores"]}
    assert (erased["waiting"], erased["failures"], erased["stream"]) == (1, 1, 1)
    with filled.client() as client:
        assert denied(client) == []


@pytest.mark.parametrize("right", ["~callbacks", "~{callbacks}:copy", "+bgrewriteaof", "+slowlog|reset"])
def test_each_right_is_needed(right: str, filled: RedisServer) -> None:
    with filled.client() as client, without(client, "worker", right):
        assert run(filled, "forget", NUMBER, "--json").exit_code == 1
        assert denied(client), right
