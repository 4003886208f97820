"""The throughput of handlers: events that did not arrive are not counted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import library_loops
from benchmarks.deployment import REPOSITORY
from tests.environment import stripped_environment
from tests.redis_server import RedisServer


@pytest.mark.parametrize("name", ["stream", "jsonl"])
def test_events_that_existed_before_are_not_measured(redis_server: RedisServer, tmp_path: Path, name: str) -> None:
    environment = {"REDIS_URL": redis_server.url, "CALLBACKS_JSONL_DIR": str(tmp_path)}
    (tmp_path / "events-before.jsonl").write_text("{}\n")
    with redis_server.client() as client:
        client.xadd("callbacks", {"id": "another"})

    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.library_loops", "handler", name, "20", "10"],
        cwd=REPOSITORY,
        env={**stripped_environment(), **environment, "PYTHONPATH": os.fspath(REPOSITORY)},
        check=False,
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 1
    assert f"handler {name}: 21 of 20 events are there" in ended.stderr
    assert ended.stdout == ""
    assert name in library_loops.LOOPS
