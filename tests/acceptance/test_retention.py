"""The workers of a built-in handler remove what is older than CALLBACKS_RETENTION_DAYS."""

import os
import time
from pathlib import Path

from shared import keys
from tests.acceptance.processes import run, started
from tests.integration.metrics.test_metrics import scrape
from tests.redis_server import RedisServer
from tests.web_process import until


def test_an_old_file_is_removed_shown_and_counted(redis_server: RedisServer, tmp_path: Path) -> None:
    events = tmp_path / "var" / "events"
    events.mkdir(parents=True)
    old = events / "events-2026-01-01T000000.000Z.jsonl"
    old.write_text("{}\n")
    os.utime(old, (time.time() - 8 * 86_400,) * 2)
    environment = {
        "REDIS_URL": redis_server.url,
        "CALLBACKS_TOKENS": "main=tok-retention-0123456789",
        "CALLBACKS_HANDLERS": "jsonl",
        "CALLBACKS_RETENTION_DAYS": "7",
    }
    with started(tmp_path, environment) as start:
        worker = start("worker", "deliver")
        until(lambda: not old.exists())
        with redis_server.client() as client:
            until(lambda: client.exists(keys.RETENTION))
        assert worker.stop() == 0
    assert "action=retention_removed store=jsonl@" in worker.output

    found = scrape(redis_server.url)
    assert set(found["callbacks_retention_days"].values()) == {7}
    assert set(found["callbacks_retention_oldest_age_seconds"].values()) == {0}
    assert set(found["callbacks_retention_behind_seconds"].values()) == {0}
    assert found["callbacks_retention_removed_total"] == {("jsonl",): 1}
    checked = run("check", cwd=tmp_path, environment=environment)
    assert "kept: files of `jsonl` 7 days, failures 7 days, operators' actions 7 days" in checked.stdout
