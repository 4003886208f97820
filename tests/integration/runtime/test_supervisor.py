"""`callbacks worker` as it is run: processes that die, stop, lose Redis or are set up wrongly; what becomes of jobs.

Every process is ended by its own pid. Nothing here asserts how long something took; it has to come about at all.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared import keys, queues
from tests.integration import recorders
from tests.integration.harness import Harness, open_harness, record, status, statuses
from tests.integration.runtime.pools import HANDLERS, REPOSITORY, WAIT_SECONDS, Command, Hurried, alive, until
from tests.redis_server import RedisServer

Start = Callable[..., Command]


@pytest.fixture
def harness(quick_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Harness]:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "calls"))
    with open_harness(quick_redis.url, *recorders.ALL) as made:
        yield made


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(harness: Harness, *arguments: str, **environment: str) -> Command:
            command = Command(harness, tmp_path / "log", *arguments, **environment)
            stack.callback(command.end)
            return command

        yield start


def accept_and_expand(harness: Harness, *orders: str) -> None:
    """Have an event for each of these orders wait at each handler, in one job."""
    harness.accept(status(*(record(str(n), client_message_id=order) for n, order in enumerate(orders))))
    harness.expand()


def delivered(harness: Harness, name: str = "single") -> int:
    return next((one.delivered for one in harness.audit().handlers if one.handler == name), 0)


def running(harness: Harness, queue: str) -> int:
    return int(harness.connection.zcard(keys.rq_started(queue)))


def test_from_callback_to_handler_and_a_clean_end(harness: Harness, start: Start) -> None:
    expand, deliver = start(harness, "expand", "--processes", "2"), start(harness, "deliver")
    harness.accept(*statuses([str(n) for n in range(500)]))

    until(lambda: all(delivered(harness, name) == 500 for name in recorders.NAMED), "all is delivered")

    assert (expand.stop(), deliver.stop()) == (0, 0)
    assert harness.audit().balances
    assert harness.leftover_keys() == set()
    assert not harness.connection.smembers("rq:workers")
    assert not list(harness.connection.scan_iter("rq:scheduler*")), "and its locks are free for the next"
    assert all(set(recorders.calls(name).values()) == {1} for name in recorders.NAMED)


def test_a_failed_event_comes_back_by_itself_and_at_last_is_a_dead_letter(harness: Harness, start: Start) -> None:
    accept_and_expand(harness, "", "fails")
    start(harness, "deliver", "--handler", "single")

    def dead() -> bool:
        scheduled = keys.rq_scheduled("deliver-single")
        for job_id in harness.connection.zrange(scheduled, 0, -1):
            harness.connection.zadd(scheduled, {job_id: time.time() - 5}, xx=True)  # let its time come
        return bool(harness.dead_letters("single"))

    until(dead, "the dead letter")

    assert sorted(recorders.calls("single").values()) == [1, 3]


def test_the_job_of_a_worker_that_was_killed_runs_again_at_once(harness: Harness, start: Start, tmp_path: Path) -> None:
    accept_and_expand(harness, f"waits:{tmp_path / 'go'}", "")
    command = start(harness, "deliver", "--handler", "single")
    until(recorders.total, "the handler was called")
    (pid,) = command.workers()

    os.kill(pid, signal.SIGKILL)
    (tmp_path / "go").touch()

    until(lambda: recorders.total() > 1, "it was called again")
    until(lambda: delivered(harness) == 2, "both are delivered")
    assert sorted(recorders.calls("single").values()) == [1, 2]
    assert "action=job_requeued" in command.log
    assert harness.audit().balances


def test_a_job_popped_by_a_dead_worker_is_requeued_while_others_wait(harness: Harness, start: Start) -> None:
    accept_and_expand(harness, "")
    harness.connection.lmove(keys.rq_queue("deliver-single"), keys.rq_intermediate("deliver-single"), "LEFT", "RIGHT")

    start(harness, "deliver", "--handler", "single")

    until(lambda: delivered(harness) == 1, "it is delivered")
    assert harness.connection.llen(keys.rq_intermediate("deliver-single")) == 0


def test_a_stop_in_mid_batch_settles_what_is_done_and_cuts_nothing(harness: Harness, start: Start) -> None:
    accept_and_expand(harness, *["sleeps:0.2"] * 40)
    command = start(harness, "deliver", "--handler", "single")
    until(lambda: recorders.total() >= 3, "it is at work")

    assert command.stop() == 0

    called = recorders.total()
    assert 3 <= called < 40
    assert delivered(harness) == called, "each call that began was let end, and is settled"
    assert (running(harness, "deliver-single"), harness.audit().balances) == (0, True)
    assert len(harness.waiting_jobs("deliver-single")) == 1
    assert harness.connection.hget(keys.job(harness.waiting_jobs("deliver-single")[0]), "deaths") is None


def test_a_worker_that_takes_too_long_to_stop_is_killed_and_its_job_requeued(harness: Harness, tmp_path: Path) -> None:
    accept_and_expand(harness, "sleeps:50")
    command = Hurried(harness, tmp_path / "log")
    try:
        until(recorders.total, "the handler is at work")
        assert command.stop() == 0
    finally:
        command.end()

    (job_id,) = harness.waiting_jobs("deliver-single")
    assert harness.connection.hget(keys.job(job_id), "deaths") is None, "it did not die of the event"
    assert (running(harness, "deliver-single"), harness.audit().missing) == (0, 0)


def test_a_campaign_survives_workers_and_supervisors_that_are_killed_again_and_again(
    harness: Harness, start: Start
) -> None:
    chance = random.Random(7)
    commands = [start(harness, "expand", "--processes", "2"), start(harness, "deliver", "--handler", "single")]
    for n in range(12):
        harness.accept(
            *statuses([str(m) for m in range(n * 100, n * 100 + 150)], bundle=7, client_message_id="sleeps:0.001")
        )
        which = chance.randrange(2)
        victims = commands[which].workers()
        if n == 6:
            commands[which].end()
            commands[which] = start(harness, *(("expand",) if which == 0 else ("deliver", "--handler", "single")))
        elif victims:
            os.kill(chance.choice(victims), signal.SIGKILL)
        time.sleep(chance.uniform(0.1, 0.5))

    # The repeats that a killed worker left may be read after the last event is delivered.
    until(lambda: delivered(harness) == 1250 and harness.audit().waiting == 0, "every event is delivered")

    sums = harness.audit()
    assert (sums.unique, sums.duplicate, sums.waiting, sums.balances) == (1250, 550, 0, True)
    assert len(recorders.calls("single")) == 1250


def test_the_workers_of_a_supervisor_that_was_killed_end_by_themselves(
    harness: Harness, start: Start, tmp_path: Path
) -> None:
    accept_and_expand(harness, f"waits:{tmp_path / 'go'}", "", "")
    command = start(harness, "deliver")
    until(lambda: len(command.workers()) == 3, "a worker for each handler")
    until(lambda: recorders.calls("single"), "one is at work")
    workers = command.workers()

    command.process.kill()
    command.process.wait()
    (tmp_path / "go").touch()

    for pid in workers:
        until(lambda pid=pid: not alive(pid), "it ended")  # type: ignore[misc]
    assert running(harness, "deliver-single") == 0, "it settled, and put back the rest"
    assert harness.audit().balances


def test_a_folder_for_run_files_that_others_use_too_hinders_nothing(
    harness: Harness, start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "shared folder"
    folder.mkdir()
    for name in (".env", ".htpasswd"):
        (folder / name).write_text("somebody's")
        os.utime(folder / name, (0, 0))
    os.mkfifo(folder / "pipe")
    accept_and_expand(harness, f"waits:{tmp_path / 'go'}", "")
    command = start(harness, "deliver", "--handler", "single", CALLBACKS_RUN_DIR=str(folder))
    until(recorders.total, "the handler was called")
    (pid,) = command.workers()

    os.kill(pid, signal.SIGKILL)
    (tmp_path / "go").touch()

    until(lambda: delivered(harness) == 2, "another worker was started, and both are delivered")
    assert command.stop() == 0
    assert {path.name for path in folder.iterdir()} == {".env", ".htpasswd", "pipe"}


def test_work_continues_after_redis_was_unavailable(
    start_redis: Callable[..., RedisServer], start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "calls"))
    server = start_redis()
    with open_harness(server.url, *recorders.ALL) as harness:
        expand, deliver = start(harness, "expand"), start(harness, "deliver", "--handler", "single")
        harness.accept(status(record("a", client_message_id=f"waits:{tmp_path / 'go'}")))
        until(recorders.total, "the handler is at work")

        server.kill()
        (tmp_path / "go").touch()  # the handler ends, and has nobody to tell
        until(lambda: len(set(_processes(deliver, "redis_unavailable"))) == 2, "both workers miss it")
        server.start()

        harness.accept(status(record("b")))
        until(lambda: delivered(harness) == 2, "both are delivered")
        assert set(recorders.calls("single").values()) == {1}, "what was done is told as soon as somebody listens"
        assert harness.audit().missing == 0
        for action in ("redis_unavailable", "redis_available"):
            until(lambda action=action: len(_processes(deliver, action)) == 2, action)  # type: ignore[misc]
            assert len(set(_processes(deliver, action))) == 2, "once in each process"
        assert "logger=rq" not in deliver.log
        assert (expand.stop(), deliver.stop()) == (0, 0)


def _processes(command: Command, action: str) -> list[str]:
    """Return the processes that logged an action, of all commands of the test."""
    return re.findall(rf"process=(\d+) action={action} ", command.log)


def test_work_begins_when_redis_comes_up_later(
    start_redis: Callable[..., RedisServer], start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(recorders.VARIABLE, str(tmp_path / "calls"))
    server = start_redis()
    with open_harness(server.url, *recorders.ALL) as harness:
        accept_and_expand(harness, "")
        server.stop()
        command = start(harness, "deliver", "--handler", "single")
        until(lambda: "action=redis_unavailable" in command.log, "it says so")

        server.start()

        until(lambda: delivered(harness) == 1, "it is delivered")
        assert "Traceback" not in command.log
        assert command.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "output"),
    [
        pytest.param(["expand"], {"CALLBACKS_HANDLERS": "no.such.module"}, "CALLBACKS_HANDLERS", id="no such handler"),
        pytest.param(["expand"], {"CALLBACKS_DEDUPE_SECONDS": "soon"}, "CALLBACKS_DEDUPE_SECONDS", id="no number"),
        pytest.param(["deliver", "--handler", "nobody"], {}, "no handler is called 'nobody'", id="no such name"),
        pytest.param(["expand"], {"REDIS_URL": ""}, "REDIS_URL", id="no Redis"),
    ],
)
def test_a_wrong_configuration_ends_with_2_and_says_what_is_wrong(
    harness: Harness, start: Start, arguments: list[str], environment: dict[str, str], output: str
) -> None:
    command = start(harness, *arguments, **environment)

    assert command.process.wait(WAIT_SECONDS) == 2
    assert output in command.log
    assert "Traceback" not in command.log


def test_a_worker_that_cannot_be_set_up_ends_its_supervisor_with_2(
    harness: Harness, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "whimsical.py").write_text(
        "import sys\n"
        "from callbacks import ReportEvent, handler\n"
        "if any('workers.process' in word for word in sys.orig_argv):\n"
        "    raise ImportError('not in here')\n"
        "@handler(ReportEvent)\n"
        "def whim(event): ...\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    command = start(harness, "deliver", CALLBACKS_HANDLERS="whimsical", PYTHONPATH=path)

    assert command.process.wait(WAIT_SECONDS) == 2
    assert "not in here" in command.log


def test_a_stop_while_a_module_is_imported_ends_with_0(harness: Harness, start: Start, tmp_path: Path) -> None:
    importing = tmp_path / "importing"
    (tmp_path / "slow.py").write_text(
        f"import pathlib, time\npathlib.Path({str(importing)!r}).touch()\ntime.sleep({WAIT_SECONDS * 2})\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    # As there is another handler, the workers would start without the one that was interrupted.
    command = start(harness, "deliver", CALLBACKS_HANDLERS=f"slow,{HANDLERS}", PYTHONPATH=path)
    until(importing.exists, "it is being imported")

    assert command.stop() == 0
    assert "handler_import_failed" not in command.log
    assert "worker_started" not in command.log


def test_a_worker_for_a_queue_without_a_handler_ends_with_2(harness: Harness) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workers.process", queues.delivery_queue("nobody"), "--name", "deliver-nobody-1"],
        cwd=REPOSITORY,
        env={**os.environ, "REDIS_URL": harness.url, "CALLBACKS_HANDLERS": HANDLERS},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
    )

    assert done.returncode == 2
    assert "deliver-nobody" in done.stderr


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"MALLOC_ARENA_MAX": "3"}, "3")])
def test_the_threads_of_an_expand_worker_share_their_memory_unless_the_operator_says_otherwise(
    harness: Harness, given: dict[str, str], expected: str
) -> None:
    environment = {"REDIS_URL": harness.url, "CALLBACKS_HANDLERS": HANDLERS} | given
    command = [sys.executable, "-m", "callbacks.cli.main", "worker", "expand"]
    supervisor = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")

    def worker() -> str:
        started = [Path(f"/proc/{pid}") for pid in children.read_text().split()]
        return next(
            (
                one.joinpath("environ").read_text()
                for one in started
                if b"workers.process" in (one / "cmdline").read_bytes()
            ),
            "",
        )

    try:
        until(lambda: bool(worker()), "its worker has started")
        assert f"MALLOC_ARENA_MAX={expected}" in worker().split("\0")
    finally:
        supervisor.terminate()
        supervisor.wait(WAIT_SECONDS)
