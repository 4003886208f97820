"""What an earlier release left in Redis the present one carries on with: jobs, quarantine, dead letters, counters."""

import json
import time
from pathlib import Path

import pytest

from shared import audit, keys
from tests.acceptance.processes import run, started
from tests.integration.runtime import stored_formats
from tests.redis_server import RedisServer

FILES = sorted(stored_formats.STORED.glob("*.json"))
SHOP = """
from callbacks import ReplyEvent, ReportEvent, handler

@handler(ReportEvent, ReplyEvent)
def shop(event):
    with open("shop.txt", "a") as file:
        file.write(event.id + "\\n")
"""


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_a_release_finishes_what_an_earlier_one_began(file: Path, redis_server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    log = tmp_path / "events.jsonl"
    environment = {
        "REDIS_URL": redis_server.url,
        "CALLBACKS_HANDLERS": "log,shop",
        "CALLBACKS_LOG_FILE": str(log),
    }
    with redis_server.client(decode_responses=False) as client:
        stored_formats.put_back(client, stored_formats.read(file))
        # As if they had failed just now: failures older than a month are dropped, and the file gets older.
        now_ms = time.time() * 1000
        for index in (keys.QUARANTINE, keys.dead("shop")):
            client.zadd(index, dict.fromkeys(client.zrange(index, 0, -1), now_ms))
        before = audit.run(client)
        assert before.balances
        assert (before.waiting, before.quarantined, before.unique) == (1, 1, 3)

        quarantined = run("quarantine", "list", "--json", cwd=tmp_path, environment=environment)
        (entry,) = map(json.loads, quarantined.stdout.splitlines())
        shown = run("quarantine", "show", entry["id"], "--numbers", "full", cwd=tmp_path, environment=environment)
        assert "$.data[0].status" in shown.stdout

        replayed = run("dead", "replay", "shop", "--all", cwd=tmp_path, environment=environment)
        assert replayed.returncode == 0, replayed.stderr
        with started(tmp_path, environment) as start:
            expand = start("worker", "expand")
            start("worker", "deliver")
            expand.until(lambda: audit.run(client).pending == 0, "rest")
        after = audit.run(client)

    assert after.balances
    delivered = {handler.handler: handler.delivered for handler in after.handlers}
    assert delivered == {"log": 4, "shop": 4}
    output = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(event["kind"] for event in output) == ["reply", "report", "report", "report"]
    assert sorted((tmp_path / "shop.txt").read_text().split()) == sorted(event["id"] for event in output)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_what_is_written_down_is_what_was_put_back(file: Path, redis_server: RedisServer) -> None:
    kept = stored_formats.read(file)

    with redis_server.client(decode_responses=False) as client:
        stored_formats.put_back(client, kept)
        assert stored_formats.append_lines(client) == kept
