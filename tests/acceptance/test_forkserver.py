"""A forked process is what a started one is: its folder, environment, files, output and end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import forkserver
from tests.acceptance.processes import run, started
from tests.environment import stripped_environment
from tests.redis_server import free_port

_SHOW = """
import json, os, pathlib, signal, sys, threading, time
files = [entry for entry in pathlib.Path("/proc/self/fd").iterdir() if int(entry.name) > 2 and entry.exists()]
print(json.dumps({
    "folder": os.getcwd(),
    "environment": {name: value for name, value in os.environ.items() if name != "LC_CTYPE"},
    "session of its own": os.getsid(0) == os.getpid(),
    "threads": threading.active_count(),
    "zone": time.tzname,
    "signals": [str(signal.getsignal(one)) for one in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE)],
    "input": sys.stdin.read(),
    "main": [sys.modules["__main__"].__name__, sys.modules["__main__"].__spec__],
    "searched first": sys.path[:2],
    "other files": [str(file.readlink()) for file in files],
}))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    # Without one that the fork server has, so that it shows if that one is inherited.
    fewer = {name: value for name, value in stripped_environment().items() if name != "HOME"}
    return {**fewer, "TZ": "Asia/Tokyo", "PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": "1"}


def test_a_program_sees_what_a_started_one_sees(tmp_path: Path, environment: dict[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _SHOW],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        start_new_session=True,
    )

    assert shown(tmp_path, environment) == without_files(json.loads(ended.stdout))


def test_a_program_has_no_file_of_its_parents(tmp_path: Path, environment: dict[str, str]) -> None:
    found = program(_SHOW, tmp_path, environment)

    assert set(found["other files"]) <= {os.devnull}


@pytest.mark.parametrize("words", [["--version"], ["nonsense"], ["dead", "list"], ["worker", "--help"]])
def test_a_command_writes_and_ends_alike(tmp_path: Path, words: list[str]) -> None:
    environment = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    real, forked = (run(*words, cwd=tmp_path, environment=environment, forked=forked) for forked in (False, True))

    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_program_alike(tmp_path: Path, environment: dict[str, str], signum: signal.Signals) -> None:
    log = tmp_path / "log.txt"
    process = forkserver.shared().start(
        log=log, cwd=tmp_path, environment=environment, program="import time\nprint('ready')\ntime.sleep(600)"
    )
    while "ready" not in log.read_text():
        assert process.poll() is None
    process.send_signal(signum)

    assert process.wait(60) == -signum


def test_a_command_that_runs_on_is_stopped_with_its_fixture(tmp_path: Path) -> None:
    with started(tmp_path, {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}) as start:
        worker = start("worker", "expand")
        worker.until(lambda: "action=worker_started" in worker.output, "a worker")

    assert worker.process.poll() == 0


def shown(folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    return without_files(program(_SHOW, folder, environment))


def without_files(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "other files"}


def program(text: str, folder: Path, environment: dict[str, str]) -> Any:
    log = folder / "shown.json"
    process = forkserver.shared().start(log=log, cwd=folder, environment=environment, program=text)
    assert process.wait(60) == 0, log.read_text()
    return json.loads(log.read_text())
