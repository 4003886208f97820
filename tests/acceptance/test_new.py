"""What `callbacks new` writes passes its own tests and the linters, and runs with `callbacks dev` and the Procfile."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.acceptance.processes import CALLBACKS, REPOSITORY, get, run, started
from tests.docs.shell import shell
from tests.redis_server import RedisServer, free_port, require

BINARIES = Path(CALLBACKS).parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = run("new", "my-orders", cwd=tmp_path, forked=True)
    assert made.returncode == 0, made.stderr
    return tmp_path / "my-orders"


def execute(*command: str, cwd: Path) -> None:
    ended = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def recorded(project: Path) -> list[str]:
    if not (project / "my_orders.db").exists():
        return []
    # The file is there before its table is.
    with closing(sqlite3.connect(project / "my_orders.db")) as database, suppress(sqlite3.OperationalError):
        return [row[0] for row in database.execute("SELECT client_message_id FROM failed")]
    return []


def test_its_tests_pass_by_the_commands_that_it_prints(tmp_path: Path) -> None:
    made = run("new", "my-orders", cwd=tmp_path, forked=True)
    enter, test, *_ = (line.strip() for line in made.stdout.splitlines() if line.startswith("  "))
    # Many machines have one, in an environment without this service.
    other = tmp_path / "bin" / "pytest"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho this is not the pytest of this environment; exit 1\n")
    other.chmod(0o755)

    tested = shell(
        f"{enter}\n{test}",
        tmp_path,
        PATH=f"{other.parent}:{BINARIES}:{os.environ['PATH']}",
        PYTEST_ADDOPTS="-q -W error -p no:cacheprovider",
    )

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_it_passes_the_linters_and_the_strict_type_checker(project: Path) -> None:
    for length in ("88", "120"):
        execute("ruff", "format", "--isolated", "--check", "--line-length", length, ".", cwd=project)
    execute(
        "ruff",
        "check",
        "--isolated",
        "--select",
        "ALL",
        "--ignore",
        "COM812,CPY,D203,D213,EM,TRY003",
        "my_orders.py",
        cwd=project,
    )
    execute("ruff", "check", "--isolated", "--extend-select", "ANN,B,I,N,PT,RUF,UP", ".", cwd=project)
    # With the repository's settings, and so its cache.
    execute("mypy", *map(str, project.glob("*.py")), cwd=REPOSITORY)


def test_it_runs_with_dev_and_gets_the_sample_that_simulate_sends(project: Path) -> None:
    require()
    with started(project, {}) as start:
        dev = start("dev", "--port", str(free_port()))
        dev.until(lambda: "callback_url" in dev.output, "the URLs")
        sent = run("simulate", "--sample", "undelivered", "--client-message-id", "order-7", cwd=project, forked=True)
        assert sent.returncode == 0, sent.stderr
        dev.until(lambda: recorded(project) == ["order-7"], "the effect")


def test_it_runs_with_honcho_and_a_redis(
    project: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(BINARIES), prepend=":")
    port, ops_port = free_port(), free_port()
    settings = project / ".env"
    text = settings.read_text().replace("# REDIS_URL=redis://127.0.0.1:6379/0", f"REDIS_URL={redis_server.url}")
    settings.write_text(text)
    token = text.partition("CALLBACKS_TOKENS=gateway=")[2].partition("\n")[0]
    with started(project, {"CALLBACKS_OPS_PORT": str(ops_port)}) as start:
        system = start("start", "--port", str(port), command=f"{BINARIES}/honcho")
        system.until(lambda: get(f"http://127.0.0.1:{port}/readyz")[0] == 200, "readiness")
        url = f"http://127.0.0.1:{port}/callbacks/{token}"
        sent = run("simulate", url, "--sample", "expired", "--client-message-id", "order-8", cwd=project, forked=True)
        assert sent.returncode == 0, sent.stderr
        system.until(lambda: recorded(project) == ["order-8"], "the effect")
