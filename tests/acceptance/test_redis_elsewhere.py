"""Connections to Redis that die without a word, and an address that leads to another server: nothing is restarted."""

import http.client
import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from shared import audit
from tests.acceptance.processes import TOKEN, Running, get
from tests.forwarder import Forwarder
from tests.redis_server import RedisServer, StartRedis, free_port

HANDLER = """
from callbacks import ReportEvent, Retry, handler

tried = set()

@handler(ReportEvent, attempts=5)
def second(event):
    if event.message_id not in tried and event.status == "UNDELIV":
        tried.add(event.message_id)
        raise Retry(after_seconds=8)
    with open("delivered.txt", "a") as file:
        file.write(event.message_id + "\\n")
"""


def post(port: int, body: str) -> int:
    """Return the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", f"/callbacks/{TOKEN}/status", body, {"content-type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def report(number: int, status: str = "DELIVRD") -> str:
    return f'{{"data":[{{"message_id":"{number}","status":"{status}"}}]}}'


def received(server: RedisServer) -> int:
    with server.client(decode_responses=False) as client:
        return audit.run(client).received


def test_a_connection_that_is_reset_while_idle_costs_no_callback_and_no_refusal(
    start: Callable[..., Running], port: int, redis_server: RedisServer
) -> None:
    url = f"http://127.0.0.1:{port}"
    with Forwarder(redis_server.port) as forwarder:
        web = start("web", REDIS_URL=f"redis://127.0.0.1:{forwarder.port}/0")
        web.until(lambda: get(f"{url}/readyz")[0] == 200, "readiness")

        for number in range(8):
            assert post(port, report(number)) == 200
            # None is open for a moment if a callback met the end of the last one, and is in the spool.
            web.until(lambda: forwarder.reset() > 0, "a connection to reset")
            time.sleep(0.2 * number)  # at once, and after the gate has asked again

        assert post(port, report(8)) == 200
        web.until(lambda: received(redis_server) == 9, "all callbacks in Redis")
        web.until(lambda: get(f"{url}/readyz")[0] == 200, "readiness")
        assert "action=unexpected_error" not in web.output


def test_a_demoted_primary_that_keeps_its_connections_keeps_nobody(
    start: Callable[..., Running], tmp_path: Path, port: int, start_redis: StartRedis
) -> None:
    (tmp_path / "twice.py").write_text(HANDLER)
    old = start_redis()
    new = start_redis({"replicaof": f"127.0.0.1 {old.port}", "repl-diskless-sync-delay": "0"})
    url = f"http://127.0.0.1:{port}"
    ops_port = free_port()
    delivered = tmp_path / "delivered.txt"

    def lines() -> set[str]:
        return set(delivered.read_text().split()) if delivered.exists() else set()

    with Forwarder(old.port) as forwarder, old.client() as primary, new.client() as replica:
        addresses = {
            "REDIS_URL": f"redis://127.0.0.1:{forwarder.port}/0",
            "CALLBACKS_HANDLERS": "twice",
            "CALLBACKS_OPS_PORT": str(ops_port),
        }
        web = start("web", **addresses)
        workers = [start("worker", "expand", **addresses), start("worker", "deliver", **addresses)]
        ops = start("ops", **addresses)
        tail = start("tail", **addresses)
        web.until(lambda: get(f"{url}/readyz")[0] == 200, "readiness")
        ops.until(lambda: get(f"http://127.0.0.1:{ops_port}/readyz")[0] == 200, "readiness")
        for number in range(10):
            assert post(port, report(number, "UNDELIV")) == 200
        web.until(lambda: primary.zcard("rq:scheduled:deliver-second") == 10, "ten first attempts")
        web.until(lambda: replica.info("replication")["master_link_status"] == "up", "a replica that is up to date")

        primary.execute_command("FAILOVER")
        web.until(lambda: replica.info("replication")["role"] == "master", "a new primary")
        forwarder.target = new.port

        def is_accepted_in_redis() -> bool:
            assert post(port, report(100)) == 200
            return get(f"{url}/readyz")[0] == 200

        web.until(is_accepted_in_redis, "callbacks in the new primary")
        assert post(port, report(101)) == 200
        web.until(lambda: lines() == {*map(str, range(10)), "100", "101"}, "the second attempts, and what is new")
        web.until(lambda: audit.run(new.client(decode_responses=False)).balances, "a sum that comes out")
        ops.until(lambda: get(f"http://127.0.0.1:{ops_port}/readyz")[0] == 200, "readiness at the new primary")
        numbers = itertools.count(200)
        # The terminal shows what comes once it listens there, and may miss what came before.
        tail.until(
            lambda: post(port, report(next(numbers))) == 200 and re.search(r"message [2-9]\d\d", tail.output),
            "new events to see",
        )
        assert all(process.process.poll() is None for process in (web, *workers, ops, tail))
        # Nobody writes to, or reads from, the old one any more but its own replication.
        web.until(lambda: not _strangers(primary), f"nobody left at the old primary, but {_strangers(primary)}")


def _strangers(client: redis.Redis) -> set[str]:
    mine = client.client_id()
    return {
        f"{entry['id']} {entry['name']} {entry['cmd']} sub={entry['sub']} idle={entry['idle']}"
        for entry in client.client_list()
        if int(entry["id"]) != mine and "M" not in entry["flags"] and "S" not in entry["flags"]
    }


@pytest.mark.parametrize("level", ["fsync"])
def test_a_replica_is_no_place_for_callbacks_and_says_so(
    start: Callable[..., Running], port: int, start_redis: StartRedis, level: str
) -> None:
    primary = start_redis()
    replica = start_redis({"replicaof": f"127.0.0.1 {primary.port}"})
    web = start("web", REDIS_URL=replica.url, CALLBACKS_DURABILITY=level)

    web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 503, "an answer")

    web.until(lambda: "role" in get(f"http://127.0.0.1:{port}/readyz")[1]["checks"], "its role")
    assert not get(f"http://127.0.0.1:{port}/readyz")[1]["checks"]["role"]["ok"]
