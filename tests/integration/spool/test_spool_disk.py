"""A spool that is full, or whose disk fails: callbacks get 503 and are counted; afterwards everything works again."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.processes import run
from tests.integration.spool.spool_checks import (
    HURRIED,
    drained,
    missing,
    readiness,
    says_nothing_private,
    spool_of,
    states,
)
from tests.redis_server import StartRedis, free_port
from tests.web_process import StartWeb, WebProcess, report, until


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a file system is not permitted here")
    yield folder
    deadline = time.monotonic() + 60
    while subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < deadline, "the file system is still in use"
        time.sleep(0.1)


def large(number: int) -> bytes:
    return report(number) + b" " * 50_000


def fill(web: WebProcess, first: int) -> tuple[list[bytes], int]:
    """Post until three are refused. Return what was acknowledged, and how many were refused."""
    acknowledged: list[bytes] = []
    refused = 0
    for number in range(first, first + 200):
        answer = web.post(large(number))
        if answer.status_code == 200:
            acknowledged.append(large(number))
        else:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
            refused += 1
        if refused == 3:
            return acknowledged, refused
    raise AssertionError("it was never refused")


def take_all(path: Path) -> None:
    """Fill the disk."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for _ in range(1000):
            file.write(b"\x00" * 4096)


def test_beyond_the_limit_callbacks_are_refused_and_counted_until_redis_is_back(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path
) -> None:
    port = free_port()
    web = start_web(
        f"redis://127.0.0.1:{port}/0",
        prelude=HURRIED,
        CALLBACKS_SPOOL_DIR=str(tmp_path / "spool"),
        CALLBACKS_SPOOL_MAX_BYTES=str(1 << 20),
    )
    acknowledged, refused = fill(web, 0)
    assert 10 <= len(acknowledged) <= 20
    document = readiness(web)
    check = document["checks"]["spool"]
    assert document["destination"] == "none"
    assert not check["ok"]
    assert check["detail"].startswith("full")
    assert (check["limit_bytes"], check["waiting_callbacks"]) == (1 << 20, len(acknowledged))
    assert check["bytes"] <= 1 << 20
    assert check["refused"]["callbacks"] == refused
    assert 0 < check["refused"]["gateway_gives_up_in_seconds"] <= 600
    server = start_redis(port=port)
    until(lambda: drained(web))
    assert missing(server, acknowledged) == set()
    assert web.post(large(1000)).status_code == 200
    assert states(web) == ["filling", "full", "drained"]
    assert web.output.count("action=spool_refused") == 1
    says_nothing_private(web)


def limit_files(pid: int, max_bytes: int) -> Callable[[], object]:
    """Let no file of another process grow beyond `max_bytes`; return what ends that."""
    if sys.platform == "linux":
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (max_bytes, before[1]))
        return lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    else:  # noqa: RET505 # mypy follows the platform only like this
        pytest.skip("only Linux limits another process")


def test_a_failing_disk_means_503_and_acknowledged_callbacks_are_safe(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path
) -> None:
    port = free_port()
    web = start_web(f"redis://127.0.0.1:{port}/0", prelude=HURRIED, CALLBACKS_SPOOL_DIR=str(tmp_path / "spool"))
    assert web.post(large(0)).status_code == 200
    restore = limit_files(web.process.pid, 400_000)
    acknowledged, refused = fill(web, 1)
    check = spool_of(web)
    assert not check["ok"]
    assert check["detail"].startswith("failing: SQLITE_")
    assert check["refused"]["callbacks"] == refused
    restore()
    assert web.post(large(500)).status_code == 200
    server = start_redis(port=port)
    until(lambda: drained(web))
    assert missing(server, [large(0), large(500), *acknowledged]) == set()
    says_nothing_private(web)


def test_a_full_disk_is_drained_and_its_space_is_freed(
    small_disk: Path, start_web: StartWeb, start_redis: StartRedis
) -> None:
    port = free_port()
    folder = small_disk / "spool"
    web = start_web(f"redis://127.0.0.1:{port}/0", prelude=HURRIED, CALLBACKS_SPOOL_DIR=str(folder))
    acknowledged, _ = fill(web, 0)
    rest = folder / "rest"
    take_all(rest)
    assert spool_of(web)["detail"].startswith("failing: ")
    server = start_redis(port=port)
    until(lambda: drained(web))
    assert missing(server, acknowledged) == set()
    rest.unlink(missing_ok=True)
    left = os.statvfs(small_disk)
    assert left.f_bavail * left.f_frsize > 1_500_000
    server.kill()
    assert web.post(large(1000)).status_code == 200
    assert spool_of(web)["waiting_callbacks"] == 1


def test_a_disk_that_can_only_be_read_is_drained(start_web: StartWeb, start_redis: StartRedis, tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "spool"
    at_each_turn = f"{HURRIED}ingest.spool.drainer.CHECK_SECONDS = 0.0\n"
    web = start_web(f"redis://127.0.0.1:{port}/0", prelude=at_each_turn, CALLBACKS_SPOOL_DIR=str(folder))
    acknowledged = [large(number) for number in range(8)]
    assert {web.post(body).status_code for body in acknowledged} == {200}
    limit_files(web.process.pid, (folder / "spool-0.db-wal").stat().st_size)
    assert web.post(large(8)).status_code == 503
    assert spool_of(web)["detail"].startswith("failing: SQLITE_")
    server = start_redis(port=port)
    until(lambda: drained(web))
    assert missing(server, acknowledged) == set()


def test_a_full_spool_survives_a_kill(small_disk: Path, start_web: StartWeb, start_redis: StartRedis) -> None:
    port = free_port()
    folder = small_disk / "spool"
    url = f"redis://127.0.0.1:{port}/0"
    web = start_web(url, prelude=HURRIED, CALLBACKS_SPOOL_DIR=str(folder))
    acknowledged, _ = fill(web, 0)
    web.process.kill()
    web.process.wait()
    server = start_redis(port=port)
    later = start_web(url, prelude=HURRIED, CALLBACKS_SPOOL_DIR=str(folder))
    until(lambda: drained(later))
    assert missing(server, acknowledged) == set()


def test_it_serves_although_the_folder_cannot_be_made(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    server = start_redis()
    web = start_web(server, prelude=HURRIED, CALLBACKS_SPOOL_DIR=str(tmp_path / "file" / "spool"))
    assert web.post(report(1)).status_code == 200
    document = readiness(web)
    assert document["status"] == "ready"
    assert document["checks"]["spool"]["detail"].startswith("failing: ENOTDIR")
    server.kill()
    assert web.post(report(2)).status_code == 503
    assert not spool_of(web)["ok"]
    (tmp_path / "file").unlink()
    until(lambda: web.post(report(3)).status_code == 200)
    server.start()
    until(lambda: drained(web))
    assert missing(server, [report(1), report(3)]) == set()


@pytest.mark.parametrize(
    ("folder", "state", "said"),
    [
        ("spool", "ok", "callbacks wait in spool"),
        ("", "advice", "CALLBACKS_SPOOL_DIR is empty"),
        ("file", "wrong", "file cannot be written: "),
        ("file/spool", "wrong", "file/spool cannot be written: "),
    ],
)
def test_check_says_whether_the_folder_can_be_written(tmp_path: Path, folder: str, state: str, said: str) -> None:
    (tmp_path / "file").write_text("in the way")
    ended = run("check", "--json", cwd=tmp_path, environment={"CALLBACKS_SPOOL_DIR": folder})
    [(found, what)] = [
        (finding["state"], finding["what"])
        for finding in json.loads(ended.stdout)
        if "SPOOL_DIR" in finding["what"] or "wait in" in finding["what"]
    ]
    assert found == state
    assert said in what
    assert not (tmp_path / "spool").exists()


def test_check_warns_of_a_limit_larger_than_the_disk(tmp_path: Path) -> None:
    ended = run("check", cwd=tmp_path, environment={"CALLBACKS_SPOOL_MAX_BYTES": "9" * 15})
    assert "CALLBACKS_SPOOL_MAX_BYTES is 999999999999999; its disk has" in ended.stdout
