"""Start processes of the service in milliseconds: a process that has imported its modules forks, the child runs on.

An interpreter with the service's modules takes half a second of processor time to start, and the tests start hundreds.
A child (`tests.forked_process`) has nothing of its parent's but the modules. A test whose subject is how a process
starts, or what the interpreter's options and variables do, uses `subprocess`.
"""

import atexit
import functools
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.environment import stripped_environment

_REPOSITORY: Final = Path(__file__).parents[1]
_POLL_SECONDS: Final = 0.01
# What handlers and traces import, and some commands when they run.
_LIBRARIES: Final = (
    *("httpx", "sqlalchemy", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite"),
    *("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter"),
)
# Module, name, seconds instead of more, of a process that `shared` starts: a worker that is idle notices a stop soon,
# and its supervisor soon notices its end. None of them decides what is kept or requeued, only when.
_SHORTER_WAITS: Final = (
    ("workers.runtime.worker", "WAIT_SECONDS", 0.2),
    ("workers.runtime.supervisor", "_TICK_SECONDS", 0.05),
    ("workers.runtime.maintenance", "_CHECK_SECONDS", 0.25),
)


class ForkServer:
    """The process that forks, and those that it has started; `close` ends them all.

    `preload` names further modules to import. `shorter_waits` are constants of the service to replace: module, name,
    seconds. `fork_children` forks the processes too that these start with `callbacks.launcher`: a supervisor's workers.
    """

    def __init__(
        self,
        *,
        preload: Sequence[str] = (),
        shorter_waits: Sequence[tuple[str, str, float]] = (),
        fork_children: bool = False,
    ) -> None:
        options = {"preload": preload, "shorter_waits": shorter_waits, "fork_children": fork_children}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked_process", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_REPOSITORY,
            env={**stripped_environment(), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders = self._process.stdin
        self._answers = self._process.stdout.fileno()
        self._unread = b""
        self._exit_codes: dict[int, int] = {}
        self._lock = threading.Lock()

    def start(
        self,
        *arguments: str,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str],
        program: str | None = None,
        errors: Path | None = None,
        shorter_waits: Sequence[tuple[str, str, float]] = (),
    ) -> "ForkedProcess":
        """Run `callbacks …`, or `program`, Python text; append the output to `log`, standard error to `errors`.

        `shorter_waits` are further ones, of this process and its children.
        """
        log.touch()  # it is there to read as soon as this returns
        order = {
            "arguments": arguments,
            "output": str(log.absolute()),
            "errors": str((errors or log).absolute()),
            "cwd": str(cwd.absolute()),
            "environment": dict(environment),
            "program": program,
            "shorter_waits": shorter_waits,
        }
        with self._lock:
            self._orders.write(json.dumps(order).encode() + b"\n")
            self._orders.flush()
            while not (started := self._read_answers(wait=True)):
                pass
        return ForkedProcess(self, started[0], ["callbacks", *arguments])

    def exit_code(self, pid: int) -> int | None:
        """Return how a process ended: minus the number of the signal that killed it, None while it runs."""
        with self._lock:
            self._read_answers(wait=False)
            return self._exit_codes.get(pid)

    def processes(self) -> dict[int, str]:
        """Return the role of those that run by pid: what was started here is a "parent", its children are "worker"."""
        parents = children(self._process.pid)
        return {child: "worker" for parent in parents for child in children(parent)} | dict.fromkeys(parents, "parent")

    def kill_all(self) -> None:
        """Kill all that was started."""
        while running := self.processes():
            # Parents first, or they would start others. Workers whose parent has ended are the fork server's own.
            for pid in sorted(running, key=lambda pid: running[pid]):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    def close(self) -> None:
        """Kill all that was started, and end."""
        self.kill_all()
        self._process.communicate()  # the end of its input is the end of it

    def _read_answers(self, *, wait: bool) -> list[int]:
        """Record which processes have ended, and return the pids of those that were started."""
        started: list[int] = []
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            if not selector.select(None if wait else 0):
                return started
        data = os.read(self._answers, 1 << 16)
        if not data:
            raise RuntimeError("the fork server has ended; its standard error says why")
        *lines, self._unread = (self._unread + data).split(b"\n")
        for what, pid, code in map(json.loads, lines):
            if what == "started":
                self._exit_codes.pop(pid, None)
                started.append(pid)
            else:
                self._exit_codes[pid] = code
        return started


class ForkedProcess:
    """A process that a fork server started, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, server: ForkServer, pid: int, args: list[str]) -> None:
        self._server = server
        self.pid = pid
        self.args = args
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or minus the number of the signal that ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.exit_code(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(_POLL_SECONDS)
        return code

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def shared() -> ForkServer:
    """Return the fork server of this process of the tests, started when it is first needed."""
    server = ForkServer(preload=_LIBRARIES, shorter_waits=_SHORTER_WAITS, fork_children=True)
    atexit.register(server.close)
    return server


def run(*arguments: str, cwd: Path, environment: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run `callbacks …` to its end, as `subprocess.run` does."""
    with tempfile.TemporaryDirectory(prefix="callbacks-run-") as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        process = shared().start(*arguments, log=output, errors=errors, cwd=cwd, environment=environment)
        try:
            code = process.wait(seconds)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, code, output.read_text(), errors.read_text())


@contextmanager
def running(
    *, preload: Sequence[str], shorter_waits: Sequence[tuple[str, str, float]], fork_children: bool
) -> Iterator[ForkServer]:
    """Yield a fork server of the caller's own."""
    server = ForkServer(preload=preload, shorter_waits=shorter_waits, fork_children=fork_children)
    try:
        yield server
    finally:
        server.close()


def children(pid: int) -> list[int]:
    """Return the pids of the children of a process that has one thread which starts them."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
