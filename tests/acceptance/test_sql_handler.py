"""A campaign through real processes into a real PostgreSQL: messages end as the gateway said, and can be read."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from callbacks.simulator import ledger
from shared import audit
from tests.acceptance.processes import TOKEN, Running, get, run
from tests.postgres_server import PostgresServer, require
from tests.redis_server import RedisServer


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    require()
    with PostgresServer() as server:
        yield server


def test_a_campaign_out_of_order_and_with_repeats_ends_as_the_gateway_said(
    start: Callable[..., Running], tmp_path: Path, port: int, redis_server: RedisServer, postgres: PostgresServer
) -> None:
    url = postgres.new_database()
    setting = {"CALLBACKS_HANDLERS": "sql", "DATABASE_URL": url}
    web = start("web", **setting)
    web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
    workers = [start("worker", "expand", **setting), start("worker", "deliver", "--processes", "2", **setting)]
    gateway = start(
        *("simulate", f"http://127.0.0.1:{port}/callbacks/{TOKEN}", "--ledger", "ledger.jsonl", "--json"),
        *("--destinations", "200", "--undelivered", "0.1", "--out-of-order", "0.5", "--duplicates", "0.2"),
    )
    assert gateway.wait() == 0, gateway.output
    with redis_server.client(decode_responses=False) as client:
        workers[0].until(lambda: audit.run(client).pending == 0, "an empty queue")

    known = ledger.unique_events(ledger.read(tmp_path / "ledger.jsonl"))
    order = {"ACCEPTD": 1, "UNDELIV": 2, "EXPIRED": 2, "REJECTD": 2, "DELETED": 2, "DELIVRD": 3, "SEEN": 4}
    ends: dict[str, tuple[int, int, str]] = {}
    for message_id, _channel, status, _to, occurred_ms, _code in known.reports:
        ends[message_id] = max(ends.get(message_id, (0, 0, "")), (order[status], occurred_ms or 0, status))
    assert len({end[2] for end in ends.values()}) > 2

    listed = run("messages", "--limit", "100000", "--json", cwd=tmp_path, environment=setting)
    found = {row["message_id"]: row["status"] for row in map(json.loads, listed.stdout.splitlines())}
    assert found == {message_id: status for message_id, (_, _, status) in ends.items()}
    ((statuses, replies),) = postgres.execute(
        "SELECT (SELECT count(*) FROM callbacks_statuses), (SELECT count(*) FROM callbacks_replies)", url=url
    )
    assert (statuses, replies) == (len(known.reports), len(known.replies))
    result = run("message", next(iter(ends)), "--json", cwd=tmp_path, environment=setting)
    assert json.loads(result.stdout)["statuses"][0]["status"] == "ACCEPTD"
    assert [process.stop() for process in (web, *workers)] == [0, 0, 0]
