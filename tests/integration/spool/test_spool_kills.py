"""SIGKILL of the web process while it spools and while it drains: every acknowledged callback arrives."""

import random
import signal
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.integration.commit.test_commit_durability import post_all
from tests.integration.spool.spool_checks import HURRIED, drained, files, missing, says_nothing_private, spool_of
from tests.redis_server import StartRedis, free_port
from tests.web_process import TOKEN, StartWeb, WebProcess, kept, report, until

# Kill the process at the second batch that it drains: before Redis has it, after that, or once it left the spool.
DYING = """
import os, signal, ingest.spool.drainer
sends, does, loads = ingest.spool.drainer.SpoolDrainer._write, ingest.spool.drainer.SpoolDrainer._remove, []

def die_at(step):
    if len(loads) == 2 and step == {step!r}:
        os.kill(os.getpid(), signal.SIGKILL)

async def send(self, rows):
    loads.append(rows)
    die_at("unsent")
    taken = await sends(self, rows)
    die_at("sent")
    return taken

async def done(self, load, rows):
    await does(self, load, rows)
    die_at("removed")

ingest.spool.drainer.SpoolDrainer._write, ingest.spool.drainer.SpoolDrainer._remove = send, done
"""


def acknowledged_until_killed(web: WebProcess, first: int, enough: int) -> list[bytes]:
    """Post from eight threads, kill the process after `enough` acknowledgements, and return what was acknowledged."""
    acknowledged: list[bytes] = []
    reached = threading.Event()

    def post(start: int) -> None:
        with web.client() as client:
            for number in range(start, start + 100_000):
                try:
                    answer = client.post(f"/callbacks/{TOKEN}/status", content=report(number))
                except httpx.TransportError:
                    return
                assert answer.status_code == 200
                acknowledged.append(report(number))
                if len(acknowledged) >= enough:
                    reached.set()

    assert web.url
    with ThreadPoolExecutor(8) as pool:
        posting = [pool.submit(post, first + 100_000 * thread) for thread in range(8)]
        try:
            assert reached.wait(60)
        finally:
            web.process.kill()
        for done in posting:
            done.result()
    web.process.wait()
    return acknowledged


def test_i4_after_kills_while_spooling_every_acknowledged_callback_arrives(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path
) -> None:
    port = free_port()
    url, folder = f"redis://127.0.0.1:{port}/0", str(tmp_path / "spool")
    chance = random.Random(20260101)
    acknowledged: list[bytes] = []
    for number in range(5):
        web = start_web(url, CALLBACKS_SPOOL_DIR=folder)
        acknowledged += acknowledged_until_killed(web, number * 1_000_000, chance.randrange(1, 400))
    server = start_redis(port=port)
    web = start_web(url, CALLBACKS_SPOOL_DIR=folder)
    until(lambda: drained(web))
    assert missing(server, acknowledged) == set()
    assert len(acknowledged) >= 5
    assert web.stop() == 0
    assert files(tmp_path / "spool", "*.db*") == []


@pytest.mark.parametrize(("step", "twice"), [("unsent", False), ("sent", True), ("removed", False)])
def test_i4_after_kills_while_draining_nothing_is_missing_and_at_most_one_batch_is_stored_twice(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path, step: str, twice: bool
) -> None:
    port = free_port()
    url, folder = f"redis://127.0.0.1:{port}/0", str(tmp_path / "spool")
    bodies = [report(number) for number in range(1300)]
    web = start_web(url, prelude=DYING.format(step=step) + HURRIED, CALLBACKS_SPOOL_DIR=folder)
    assert post_all(web, bodies) == [200] * len(bodies)
    server = start_redis(port=port)
    assert web.process.wait(60) == -signal.SIGKILL
    later = start_web(url, CALLBACKS_SPOOL_DIR=folder)
    until(lambda: drained(later))
    assert missing(server, bodies) == set()
    resent = len(kept(server)) - len(bodies)
    assert resent > 0 if twice else resent == 0
    assert resent <= 500


def test_a_process_drains_the_spool_of_a_dead_one(start_web: StartWeb, start_redis: StartRedis, tmp_path: Path) -> None:
    port = free_port()
    url, folder = f"redis://127.0.0.1:{port}/0", tmp_path / "spool"
    first = start_web(url, prelude=HURRIED, CALLBACKS_SPOOL_DIR=str(folder))
    second = start_web(url, prelude=HURRIED, CALLBACKS_SPOOL_DIR=str(folder))
    firsts, seconds = [report(number) for number in range(100)], [report(number) for number in range(100, 150)]
    assert post_all(first, firsts) + post_all(second, seconds) == [200] * 150
    assert files(folder, "*.db") == ["spool-0.db", "spool-1.db"]
    assert spool_of(second)["waiting_callbacks"] == 50
    first.process.kill()
    first.process.wait()
    until(lambda: spool_of(second)["waiting_callbacks"] == 150)  # taken over while Redis is still unavailable
    server = start_redis(port=port)
    until(lambda: drained(second))
    assert missing(server, [*firsts, *seconds]) == set()
    assert len(kept(server)) == 150
    assert len(files(folder, "*.db")) == 1
    assert second.output.count("action=spool_taken_over") == 1
    says_nothing_private(second)


def test_processes_that_share_a_port_share_the_folder(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path
) -> None:
    port = free_port()
    url, folder = f"redis://127.0.0.1:{port}/0", tmp_path / "spool"
    web = start_web(url, CALLBACKS_SPOOL_DIR=str(folder), WEB_CONCURRENCY="2")
    until(lambda: web.output.count("action=started") == 2)
    bodies = [report(number) for number in range(300)]
    assert post_all(web, bodies) == [200] * len(bodies)
    assert files(folder, "*.db") == ["spool-0.db", "spool-1.db"]
    assert web.stop() == 0
    server = start_redis(port=port)
    survivor = start_web(url, CALLBACKS_SPOOL_DIR=str(folder))
    until(lambda: not missing(server, bodies) and drained(survivor))
    assert len(kept(server)) == len(bodies)


def test_a_damaged_record_is_moved_to_a_file_and_the_rest_is_drained(
    start_web: StartWeb, start_redis: StartRedis, tmp_path: Path
) -> None:
    port = free_port()
    url, folder = f"redis://127.0.0.1:{port}/0", tmp_path / "spool"
    web = start_web(url, CALLBACKS_SPOOL_DIR=str(folder))
    bodies = [report(number) for number in range(10)]
    assert one_by_one(web, bodies) == [200] * 10
    web.process.kill()
    web.process.wait()
    with sqlite3.connect(folder / "spool-0.db") as db:
        db.execute("UPDATE batches SET entries = replace(entries, x'44', x'45') WHERE id = 4")
    db.close()
    server = start_redis(port=port)
    later = start_web(url, CALLBACKS_SPOOL_DIR=str(folder))
    until(lambda: drained(later))
    assert missing(server, bodies) == {bodies[3]}
    [aside] = files(folder, "*.damaged")
    assert b"message_id" in (folder / aside).read_bytes()
    assert (folder / aside).stat().st_mode & 0o777 == 0o600
    assert f"record=4 callbacks=1 why=damaged moved_to={aside}" in later.output
    says_nothing_private(later)


def one_by_one(web: WebProcess, bodies: Sequence[bytes]) -> list[int]:
    return [web.post(body).status_code for body in bodies]
