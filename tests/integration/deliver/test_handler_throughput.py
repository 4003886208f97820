"""The throughput table is made on a tiny scale; events that did not arrive are not counted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import library_loops, throughput_of_handlers
from benchmarks.deployment import REPOSITORY
from benchmarks.measurements import OURS
from tests import postgres_server
from tests.environment import stripped_environment
from tests.redis_server import RedisServer


def test_each_handler_and_each_loop_receives_every_event(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.throughput_of_handlers", "--scale", "tiny", "--save", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=240)

    results = json.loads((tmp_path / "throughput_of_handlers.json").read_bytes())
    expected = {name: [OURS, loop] for name, loop in throughput_of_handlers.LOOPS.items()}
    if postgres_server.binaries() is None:
        del expected["sql, PostgreSQL"]
    found = {one["name"]: [series["name"] for series in one["series"]] for one in results["comparisons"]}
    assert found == expected
    assert all(
        sample[throughput_of_handlers.RATE] > 0
        for one in results["comparisons"]
        for series in one["series"]
        for sample in series["samples"]
    )


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
