"""A job that kills its workers is taken apart until only what kills them is quarantined, and all else is through."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import audit, batches
from tests import commit_pipeline
from tests.acceptance.processes import Running, run, started
from tests.redis_server import RedisServer

# A worker that died is replaced, and one that hangs is killed, sooner than the service does it.
SHORTER_WAITS = (
    ("workers.runtime.maintenance", "_CHECK_SECONDS", 0.1),
    ("workers.runtime.supervisor", "_MAX_RESTART_SECONDS", 0.1),
    ("workers.deliver.call.timeout", "GRACE_SECONDS", 1.5),
)

DEADLY_HANDLER = """
import os, signal
from callbacks import ReportEvent, handler

_file = os.open("seen.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@handler(ReportEvent, {options})
{def_} deadly(events):
    for event in events if isinstance(events, list) else [events]:
        os.write(_file, (event.message_id + "\\n").encode())
        if event.message_id == "13":
            os.kill(os.getpid(), signal.SIGKILL)
"""

# Neither an alarm nor another thread ends this: the signals are blocked, and the C code keeps the interpreter.
HANGING_HANDLER = """
import ctypes, os, signal
from callbacks import ReportEvent, handler

@handler(ReportEvent, timeout_seconds=0.2)
def deadly(event):
    with open("seen.txt", "a") as file:
        file.write(event.message_id + "\\n")
    if event.message_id == "13":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        ctypes.PyDLL(None).sleep(3600)
"""

# What a fault in a library's C code would do to the process that reads a certain body.
DEADLY_READER = """
import os, signal
from shared import wire

read = wire.read

def deadly(body, kind):
    if b'"{deadly}"' in body:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(body, kind)

wire.read = deadly
"""

CALM_HANDLER = """
from callbacks import ReportEvent, handler

@handler(ReportEvent)
def calm(event):
    with open("seen.txt", "a") as file:
        file.write(event.message_id + "\\n")
"""


@pytest.fixture
def start(tmp_path: Path, redis_server: RedisServer) -> Iterator[Callable[..., Running]]:
    """Start workers: `start("worker", "expand")`."""
    with started(tmp_path, {"REDIS_URL": redis_server.url}, shorter_waits=SHORTER_WAITS) as starter:
        yield starter


def post(server: RedisServer, numbers: range) -> None:
    """Commit callbacks as the web process does, some in one batch, some alone."""
    bodies = [json.dumps({"data": [{"message_id": str(number), "status": "SEEN"}]}) for number in numbers]
    kept = [batches.Accepted("status", "main", batches.now_ms(), 1, body) for body in bodies]
    with server.client() as client, client.pipeline() as pipe:
        commit_pipeline.add(pipe, kept[:20])
        for alone in kept[20:]:
            commit_pipeline.add(pipe, [alone])
        pipe.execute()


def at_rest(server: RedisServer, running: Running) -> audit.Audit:
    with server.client(decode_responses=False) as client:

        def is_at_rest() -> bool:
            sums = audit.run(client)
            return not sums.pending and not sums.moving

        running.until(is_at_rest, "rest")
        return audit.run(client)


def test_an_event_that_hangs_in_c_code_becomes_a_dead_letter_alone(
    start: Callable[..., Running], tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "deadly.py").write_text(HANGING_HANDLER)
    post(redis_server, range(30))
    start("worker", "expand", CALLBACKS_HANDLERS="deadly")
    deliver = start("worker", "deliver", CALLBACKS_HANDLERS="deadly")

    sums = at_rest(redis_server, deliver)

    assert [(at.delivered, at.dead) for at in sums.handlers] == [(29, 1)]
    assert "Timeout" in deliver.output  # where it stood, for the handler's author


@pytest.mark.parametrize(
    ("options", "def_"),
    [("", "def"), ("batch=True", "def"), ("concurrency=8", "async def")],
    ids=["sync", "batch", "async"],
)
def test_an_event_that_kills_its_handlers_process_becomes_a_dead_letter_alone(
    start: Callable[..., Running], tmp_path: Path, redis_server: RedisServer, options: str, def_: str
) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY_HANDLER.replace("{options}", options).replace("{def_}", def_))
    post(redis_server, range(30))
    start("worker", "expand", CALLBACKS_HANDLERS="deadly")
    deliver = start("worker", "deliver", CALLBACKS_HANDLERS="deadly")

    sums = at_rest(redis_server, deliver)

    assert sums.balances
    assert [(at.delivered, at.dead) for at in sums.handlers] == [(29, 1)]
    assert set((tmp_path / "seen.txt").read_text().split()) == {str(number) for number in range(30)}
    environment = {"REDIS_URL": redis_server.url}
    listed = run("dead", "list", "deadly", "--json", cwd=tmp_path, environment=environment)
    event_id = json.loads(listed.stdout)["id"]
    letter = json.loads(run("dead", "show", "deadly", event_id, "--json", cwd=tmp_path, environment=environment).stdout)
    assert letter["event"]["message_id"] == "13"
    assert letter["error"] == "3 workers died while the handler had it"


@pytest.mark.parametrize("deadly", ["0", "13", "20", "25", "29"])
def test_a_callback_that_kills_its_reader_is_quarantined_alone(
    start: Callable[..., Running], tmp_path: Path, redis_server: RedisServer, deadly: str
) -> None:
    # The first twenty are one batch, which takes the others along.
    (tmp_path / "calm.py").write_text(CALM_HANDLER)
    # An expand worker imports no handler: Python itself loads this when a process starts.
    faulty = tmp_path / "faulty"
    faulty.mkdir()
    (faulty / "sitecustomize.py").write_text(DEADLY_READER.replace("{deadly}", deadly))
    post(redis_server, range(30))
    start("worker", "expand", CALLBACKS_HANDLERS="calm", PYTHONPATH=str(faulty))
    deliver = start("worker", "deliver", CALLBACKS_HANDLERS="calm")

    sums = at_rest(redis_server, deliver)

    assert sums.balances
    assert (sums.unique, sums.quarantined) == (29, 1)
    assert set((tmp_path / "seen.txt").read_text().split()) == {str(number) for number in range(30)} - {deadly}
    listed = run("quarantine", "list", "--json", cwd=tmp_path, environment={"REDIS_URL": redis_server.url})
    assert json.loads(listed.stdout)["error"] == "3 workers died while they read it"
