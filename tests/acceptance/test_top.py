"""`callbacks top` as a process: once for scripts, again and again in a terminal, and how it ends."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest

from tests.acceptance.processes import REPOSITORY, TOKEN, Running, get, run
from tests.acceptance.terminals import in_terminal
from tests.redis_server import RedisServer, StartRedis, free_port
from tests.web_process import report, until

Start: TypeAlias = Callable[..., Running]
_LEAVES_THE_SCREEN = "\x1b[?1049l"


def test_once_says_what_a_running_service_did(
    start: Start, port: int, redis_server: RedisServer, tmp_path: Path
) -> None:
    environment = {"REDIS_URL": redis_server.url}
    base = f"http://127.0.0.1:{port}"
    web = start("web")
    start("worker", "expand")
    start("worker", "deliver", "--handler", "log")
    web.until(lambda: get(f"{base}/readyz")[0] == 200, "readiness")
    for number in range(5):
        httpx.post(f"{base}/callbacks/{TOKEN}", content=report(number), trust_env=False, timeout=30).raise_for_status()

    def output() -> dict[str, object]:
        found = run("top", "--json", cwd=tmp_path, environment=environment)
        assert found.returncode == 0, found.stderr
        [line] = found.stdout.splitlines()
        return dict(json.loads(line))

    seen: dict[str, object] = {}

    def is_all_there() -> bool:
        now = output()
        seen.update(now)
        handlers, acknowledged = now["handlers"], now["acknowledged"]
        assert isinstance(handlers, list)
        assert isinstance(acknowledged, dict)
        delivered = [at["delivered"] for at in handlers]
        return delivered == [5] and acknowledged["answers"] == 5 and now["web_processes"] == 1

    try:
        until(is_all_there)
    except AssertionError:
        pytest.fail(f"it did not come true: {seen}")
    now = output()
    assert (now["durable"], now["quarantined"], now["workers"]) == (True, 0, 2)
    assert str(now["at"]).endswith("Z")
    picture = run("top", "--once", cwd=tmp_path, environment=environment)
    assert picture.returncode == 0
    assert "\x1b" not in picture.stdout
    assert "audit         balances" in picture.stdout
    assert "1 web, 2 workers" in picture.stdout
    assert run("top", cwd=tmp_path, environment=environment).stdout.count("durable") == 1  # into a pipe: once


@pytest.mark.parametrize("arguments", [("--once",), ("--json",), ()])
def test_once_ends_with_1_while_redis_is_unavailable(arguments: tuple[str, ...], tmp_path: Path) -> None:
    port = free_port()

    output = run("top", *arguments, cwd=tmp_path, environment={"REDIS_URL": f"redis://:s3cret@127.0.0.1:{port}/0"})

    assert output.returncode == 1
    assert f"redis://127.0.0.1:{port}/0 cannot be used" in output.stderr
    assert "s3cret" not in output.stdout + output.stderr


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_in_a_terminal_it_looks_again_and_again_and_a_key_ends_it(
    key: bytes, redis_server: RedisServer, tmp_path: Path
) -> None:
    environment = {"REDIS_URL": redis_server.url}
    with in_terminal("top", "--every", "0.5", cwd=tmp_path, environment=environment, columns=80) as top:
        top.wait_for_output("durable", times=3)
        top.press(b"x")  # any other key does nothing
        top.wait_for_output("durable", times=5)
        top.press(key)

        assert top.wait() == 0
        assert top.output.rstrip().endswith("\x1b[?25h") or _LEAVES_THE_SCREEN in top.output
        assert "Traceback" not in top.output


def test_in_a_terminal_a_redis_that_goes_away_is_said_and_it_goes_on(start_redis: StartRedis, tmp_path: Path) -> None:
    server = start_redis()
    with in_terminal("top", "--every", "0.5", cwd=tmp_path, environment={"REDIS_URL": server.url}) as top:
        top.wait_for_output("durable")
        server.kill()
        top.wait_for_output(f"127.0.0.1:{server.port}/0 is unavailable (ConnectionError); the status below is")
        server.start()
        seen = top.output.count("is unavailable")
        until(lambda: "durable" in top.output.rpartition("is unavailable")[2].partition("\x1b[H")[2])
        assert seen
        top.press(b"q")
        assert top.wait() == 0


def test_as_json_again_and_again_it_is_a_line_a_look_until_nobody_reads(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "callbacks.cli.main", "top", "--json", "--every", "0.5"],
        cwd=REPOSITORY,
        env={"REDIS_URL": redis_server.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as top:
        assert top.stdout is not None
        assert top.stderr is not None
        ages = [json.loads(top.stdout.readline())["at"] for _ in range(3)]
        assert ages == sorted(set(ages))
        top.stdout.close()
        assert top.wait(60) == 0
        assert top.stderr.read() == ""


def test_without_rich_it_says_what_to_install(redis_server: RedisServer, tmp_path: Path) -> None:
    program = "import sys; sys.modules['rich'] = None; from callbacks.cli.main import main; main(['top'])"

    output = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={"REDIS_URL": redis_server.url},
        capture_output=True,
        text=True,
        check=False,
    )

    assert output.returncode == 1
    assert "pip install fortytwo-callbacks\n" in output.stderr
    needs = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    assert any(need.startswith("rich>") for need in needs)
