"""Which of several web processes are started again: those that have ended, or have not answered for minutes."""

import asyncio
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from uvicorn.config import STARTUP_FAILURE

from callbacks.cli import web_processes
from callbacks.cli.web_processes import SILENT_SECONDS, WebProcess, WebProcesses


class Child:
    """A process as uvicorn has it, without one."""

    def __init__(self, *, exitcode: int | None = None, answers: bool = False) -> None:
        self.exitcode = exitcode
        self.answers = answers
        self.pid = id(self)
        self.process = self
        self.was_killed = False

    def is_alive(self) -> bool:
        return self.exitcode is None

    def ping(self, timeout: float) -> bool:
        assert timeout == 0, "nobody waits for one process"
        return self.answers

    def start(self) -> None:
        """Do nothing."""

    def kill(self) -> None:
        self.was_killed = True

    def join(self) -> None:
        """Do nothing."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time, in a list."""
    seconds = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(web_processes, "WebProcess", lambda *_: Child())
    return seconds


@pytest.fixture
def processes() -> Iterator[Any]:
    handlers = {number: signal.getsignal(number) for number in signal.Signals if number not in _NEVER_CAUGHT}
    yield WebProcesses(uvicorn.Config("callbacks.cli.web:app", workers=2), sockets=[])
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


_NEVER_CAUGHT = (signal.SIGKILL, signal.SIGSTOP)


def test_a_process_that_starts_slowly_is_waited_for(processes: Any, clock: list[float]) -> None:
    starting, serving = Child(), Child(answers=True)
    processes.processes[:] = [starting, serving]
    for _ in range(10):
        processes.keep_subprocess_alive()
        clock[0] += SILENT_SECONDS / 10 - 1
    assert processes.processes == [starting, serving]
    starting.answers = True
    processes.keep_subprocess_alive()
    starting.answers = False
    clock[0] += SILENT_SECONDS - 1
    processes.keep_subprocess_alive()
    assert processes.processes == [starting, serving]


def test_one_that_is_silent_for_too_long_is_killed_and_another_started(processes: Any, clock: list[float]) -> None:
    silent, serving = Child(), Child(answers=True)
    processes.processes[:] = [silent, serving]
    processes.keep_subprocess_alive()
    clock[0] += SILENT_SECONDS
    processes.keep_subprocess_alive()
    assert silent.was_killed
    assert processes.processes[0] is not silent
    assert processes.processes[1] is serving


def test_one_that_has_ended_is_started_again_at_once(processes: Any, clock: list[float]) -> None:
    ended, serving = Child(exitcode=-9), Child(answers=True)
    processes.processes[:] = [ended, serving]
    processes.keep_subprocess_alive()
    assert processes.processes[0] is not ended
    assert not processes.should_exit.is_set()


def test_if_one_could_not_start_all_end(processes: Any, clock: list[float]) -> None:
    processes.processes[:] = [Child(exitcode=STARTUP_FAILURE), Child()]
    processes.keep_subprocess_alive()
    assert processes.should_exit.is_set()


class Pipe:
    """A connection of which a thread reads pings."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def recv(self) -> bytes:
        return b"ping"

    def send(self, answer: object) -> None:
        self.sent.append(answer)


def test_a_process_answers_only_while_its_event_loop_comes_round() -> None:
    process = WebProcess(uvicorn.Config("callbacks.cli.web:app", workers=2), [])
    process.child_conn.close()
    process.parent_conn.close()
    process.child_conn = pipe = Pipe()  # type: ignore[assignment]
    server: Any = process.server

    def come_round() -> None:
        asyncio.run(server.on_tick(1))

    process.pong()
    assert pipe.sent == []
    come_round()
    process.pong()
    assert pipe.sent == [False]
    process.pong()
    process.pong()
    assert pipe.sent == [False], "the loop hangs: nobody answers for it"
    server.started = True
    come_round()
    process.pong()
    assert pipe.sent == [False, True]


def test_ready_is_when_the_first_serves_and_each_round_is_a_beat(
    processes: Any, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    signs: list[str] = []
    monkeypatch.setattr(processes._liveness, "ready", lambda: signs.append("ready"))
    monkeypatch.setattr(processes._liveness, "beat", lambda: signs.append("beat"))
    processes.processes[:] = [Child(), Child()]
    processes.keep_subprocess_alive()
    assert signs == ["beat"]
    processes.processes[1].answers = True
    processes.keep_subprocess_alive()
    assert signs == ["beat", "beat", "ready"]
