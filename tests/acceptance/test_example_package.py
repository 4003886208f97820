"""The example of a package of one's own: installed beside the service it is found, run by workers, and tested."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.processes import REPOSITORY, TOKEN, Running, get, run

EXAMPLE = REPOSITORY / "examples" / "callbacks-unreachable"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package, without network, into a folder of its own."""
    folder = tmp_path_factory.mktemp("package")
    # A copy, as building leaves files beside the sources.
    shutil.copytree(EXAMPLE, folder / "source")
    install = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    python("-m", "pip", *install, "--target", str(folder / "installed"), str(folder / "source"), path=Path())
    return folder / "installed"


def python(*arguments: str, path: Path, cwd: Path = REPOSITORY) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_found_by_its_entry_point(installed: Path, tmp_path: Path) -> None:
    code = (
        "from workers import registry; (found,) = registry.load(['unreachable']); print(found.name, found.location); "
        "import callbacks_unreachable; print(callbacks_unreachable.__file__)"
    )
    name, file = python("-c", code, path=installed, cwd=tmp_path).splitlines()

    assert name == "unreachable callbacks_unreachable.handler.unreachable"
    assert Path(file).is_relative_to(installed)


def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")

    output = python("-m", "pytest", "-q", "-W", "error", "tests", path=installed, cwd=tmp_path)

    assert " passed" in output
    assert "skipped" not in output


def test_workers_call_it_with_what_the_gateway_posts(
    installed: Path, tmp_path: Path, start: Callable[..., Running], port: int
) -> None:
    setting = {
        "CALLBACKS_HANDLERS": "unreachable",
        "PYTHONPATH": str(installed),
        "UNREACHABLE_FILE": str(tmp_path / "list.db"),
    }
    web = start("web", **setting)
    web.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
    start("worker", "expand", **setting)
    worker = start("worker", "deliver", **setting)

    records = [
        {"message_id": f"{number}", "status": status, "to": to, "timestamp": 1443165174 + number}
        for to, statuses in (("35600000001", ("UNDELIV",) * 3), ("35600000002", ("UNDELIV", "UNDELIV", "DELIVRD")))
        for number, status in enumerate(statuses, start=1 + 10 * int(to[-1]))
    ]
    for _ in range(2):  # the gateway repeats itself
        post(port, {"data": records})
    worker.until(lambda: listed(tmp_path / "list.db", "SELECT count(*) FROM reports") == [(6,)], "six reports")

    assert listed(tmp_path / "list.db", "SELECT recipient FROM unreachable") == [("35600000001",)]
    assert worker.stop() == 0
    tried = run("handlers", "try", "unreachable", "--sample", "expired", cwd=tmp_path, environment=setting)
    assert tried.returncode == 0, tried.stdout + tried.stderr


def post(port: int, body: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/callbacks/{TOKEN}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def listed(file: Path, query: str) -> list[Any]:
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as database:
        try:
            return database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []  # its tables are being made
