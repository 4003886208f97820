"""Whatever is wrong with Redis: callbacks get 200, wait on the local disk, and are in Redis afterwards."""

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commit.test_commit_durability import post_all
from tests.integration.spool import spool_checks as faults
from tests.integration.spool.spool_checks import (
    HURRIED,
    drained,
    files,
    missing,
    readiness,
    says_nothing_private,
    spool_of,
    states,
)
from tests.redis_server import StartRedis, free_port
from tests.web_process import StartWeb, kept, payload, quarantine, report, until


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (faults.killed, "redis"),
        (faults.hanging, "redis"),
        (faults.out_of_memory, "memory"),
        (faults.read_only, "role"),
        (faults.misconf, "redis_writes"),
        (faults.below_its_level, "appendfsync"),
    ],
)
def test_callbacks_posted_while_redis_fails_get_200_and_are_in_redis_afterwards(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path, fault: Any, check: str
) -> None:
    server = start_redis()
    folder = tmp_path / "spool"
    web = start_web(server, prelude=HURRIED, CALLBACKS_SPOOL_DIR=str(folder))
    assert web.post(report(0)).status_code == 200
    repair = fault(server, start_redis)
    try:
        bodies = [report(number) for number in range(1, 201)]
        assert post_all(web, bodies[:100], connections=20) == [200] * 100
        until(lambda: check in failing(readiness(web)))
        assert post_all(web, bodies[100:], connections=20) == [200] * 100
        assert web.post(payload("reply"), "reply").status_code == 200
        assert web.post(payload("status_unreadable")).json()["status"] == "quarantined"
        document = readiness(web)
        assert check in failing(document)
        assert document["destination"] == "spool"
        assert document["checks"]["spool"]["ok"]
        assert document["checks"]["spool"]["waiting_callbacks"] >= 102
        # If Redis passes the checks, draining is tried meanwhile, and removes nothing.
        later_seconds = spool_of(web)["oldest_seconds"] + 1
        until(lambda: spool_of(web)["oldest_seconds"] > later_seconds)
        assert spool_of(web)["waiting_callbacks"] >= 102
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        repair()
    until(lambda: drained(web))
    assert missing(server, [*bodies, payload("reply")]) == set()
    assert len(quarantine(server)) >= 1
    assert web.post(report(1000)).status_code == 200
    assert missing(server, [report(1000)]) == set()
    # One line for each change, none for each request.
    assert set(states(web)) == {"filling", "drained"}
    assert len(states(web)) <= 8, web.output
    assert web.output.count("action=commit_failed") <= 4
    says_nothing_private(web)


def test_while_redis_loads_its_files_callbacks_are_spooled(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path
) -> None:
    # Every 1,024 commands that it loads it answers clients with LOADING.
    server = start_redis({"key-load-delay": "200"})
    web = start_web(server, prelude=HURRIED, CALLBACKS_SPOOL_DIR=str(tmp_path / "spool"))
    until(web.ready)
    # Written after the rewrite at the start of the web process, so that they are loaded one by one.
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(6000):
            pipe.set(f"filling:{number}", number)
        pipe.execute()
    before = [report(number) for number in range(20)]
    assert post_all(web, before, connections=1) == [200] * len(before)
    server.kill()
    over = threading.Event()
    during: dict[bytes, int] = {}

    def post() -> None:
        for number in range(1000, 2000):
            during[report(number)] = web.post(report(number)).status_code
            if over.is_set():
                return

    posting = threading.Thread(target=post)
    posting.start()
    try:
        server.start()
    finally:
        over.set()
        posting.join()
    assert set(during.values()) == {200}
    until(lambda: drained(web))
    assert missing(server, [*before, *during]) == set()
    assert "loading" in web.output.lower()


def test_it_starts_without_redis_and_accepts_the_first_callback(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path
) -> None:
    port = free_port()
    web = start_web(f"redis://127.0.0.1:{port}/0", prelude=HURRIED, CALLBACKS_SPOOL_DIR=str(tmp_path / "spool"))
    bodies = [report(number) for number in range(50)]
    assert [web.post(body).status_code for body in bodies] == [200] * 50
    waiting = spool_of(web)
    assert waiting["waiting_callbacks"] == 50
    assert waiting["oldest_seconds"] >= 0
    server = start_redis(port=port)
    until(lambda: drained(web))
    # In their order, and as one job: a backlog is committed together.
    assert [callback.body.encode() for callback in kept(server)] == bodies


def test_a_backlog_at_shutdown_waits_for_the_next_start(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path
) -> None:
    port = free_port()
    folder = tmp_path / "spool"
    url = f"redis://127.0.0.1:{port}/0"
    bodies = [report(number) for number in range(20)]
    first = start_web(url, CALLBACKS_SPOOL_DIR=str(folder))
    assert post_all(first, bodies[:10]) == [200] * 10
    assert first.stop() == 0
    assert "action=spool_not_drained callbacks=10" in first.output
    second = start_web(url, CALLBACKS_SPOOL_DIR=str(folder))
    assert spool_of(second)["waiting_callbacks"] == 10
    assert post_all(second, bodies[10:]) == [200] * 10
    assert second.stop(signal.SIGINT) == 0
    server = start_redis(port=port)
    third = start_web(server, CALLBACKS_SPOOL_DIR=str(folder))
    until(lambda: drained(third))
    assert missing(server, bodies) == set()
    assert len(kept(server)) == 20
    assert third.stop() == 0
    assert files(folder, "*.db*") == []


def test_new_callbacks_do_not_wait_for_those_that_are_drained(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path
) -> None:
    port = free_port()
    stuck = """
import asyncio
drains = ingest.spool.drainer.SpoolDrainer._write
async def send(self, rows):
    while not os.path.exists(GO):
        await asyncio.sleep(0.01)
    return await drains(self, rows)
ingest.spool.drainer.SpoolDrainer._write = send
"""
    go = tmp_path / "go"
    web = start_web(
        f"redis://127.0.0.1:{port}/0",
        prelude=f"{HURRIED}\nimport os\nGO = {str(go)!r}\n{stuck}",
        CALLBACKS_SPOOL_DIR=str(tmp_path / "spool"),
    )
    assert web.post(report(1)).status_code == 200
    server = start_redis(port=port)
    until(lambda: readiness(web)["destination"] == "redis")
    assert web.post(report(2)).status_code == 200
    assert [callback.body.encode() for callback in kept(server)] == [report(2)]
    assert spool_of(web)["waiting_callbacks"] == 1
    go.touch()
    until(lambda: drained(web))
    assert [callback.body.encode() for callback in kept(server)] == [report(2), report(1)]


def test_without_a_spool_callbacks_are_refused_and_counted(start_web: StartWeb, start_redis: StartRedis) -> None:
    web = start_web(f"redis://127.0.0.1:{free_port()}/0", CALLBACKS_SPOOL_DIR="")
    for _ in range(3):
        answer = web.post(report(1))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    document = readiness(web)
    assert document["destination"] == "none"
    assert document["checks"]["spool"]["refused"]["callbacks"] == 3
    assert failing(document) == {"redis"}
    assert web.output.count("action=spool_refused") == 1


def failing(document: dict[str, Any]) -> set[str]:
    return {name for name, check in document["checks"].items() if not check["ok"]}
