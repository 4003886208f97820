"""The Procfile starts the whole system under a runner of Procfiles, and a SIGTERM stops it."""

import json
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.processes import CALLBACKS, REPOSITORY, TOKEN, Running, assert_nothing_left, get
from tests.redis_server import free_port

BODY = (REPOSITORY / "tests" / "payloads" / "status_bundle.json").read_bytes()


def test_it_has_one_line_for_each_process_type() -> None:
    lines = (REPOSITORY / "Procfile").read_text().splitlines()

    assert [line.partition(":")[0] for line in lines] == ["web", "expand", "deliver", "ops"]


def test_honcho_runs_it_and_a_callback_becomes_an_event(
    start: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(REPOSITORY / "Procfile", tmp_path)
    binaries = str(Path(CALLBACKS).parent)
    port, ops_port = free_port(), free_port()
    # honcho gives each process type a port of its own, from this one on in steps of 100; web is the first.
    monkeypatch.setenv("PATH", binaries, prepend=":")
    system = start("start", "--port", str(port), command=f"{binaries}/honcho", CALLBACKS_OPS_PORT=str(ops_port))
    system.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
    system.until(lambda: get(f"http://127.0.0.1:{ops_port}/readyz")[0] == 200, "the operators' page")

    request = urllib.request.Request(f"http://127.0.0.1:{port}/callbacks/{TOKEN}/status", BODY, method="POST")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert (answer.status, json.load(answer)) == (200, {"status": "accepted"})

    log = tmp_path / "events.jsonl"
    system.until(lambda: log.exists() and log.read_text().endswith("\n"), "the event")
    assert json.loads(log.read_text().splitlines()[0])["source"] == "acceptance"
    system.until(lambda: get(f"http://127.0.0.1:{ops_port}/audit")[1]["pending"] == 0, "rest")
    assert get(f"http://127.0.0.1:{ops_port}/audit")[1]["balances"] is True
    assert TOKEN not in system.output

    system.stop()
    assert_nothing_left(tmp_path)
