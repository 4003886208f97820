"""What a repetition runs on: a fresh Redis, as durable as production's, and real processes; gone when it ends.

Everything a stage starts is on 127.0.0.1 at free ports, keeps its files in one temporary folder on a disk, and ends
when the process that started it, however that one ends (see callbacks/cli/exit_with_parent.py).
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.machine import disk_folder
from callbacks.cli import child_processes
from callbacks.cli.embedded_redis import EmbeddedRedis
from callbacks.cli.ports import free_port
from shared import connections

REPOSITORY: Final = Path(__file__).parents[1]
TOKEN: Final = "benchmark-token-5f20c9"
# For the slowest: a backlog of half a million callbacks on a busy machine.
_TIMEOUT_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 40.0
_OURS: Final = ("CALLBACKS_", "REDIS_URL", "DATABASE_URL", "PORT", "HOST", "WEB_CONCURRENCY")


class MeasurementFailed(Exception):
    """A measurement that did not do what it was to measure, so that its figure would mean nothing."""


def wait_until(
    has_happened: Callable[[], Any], what: str, *, every: float = 0.005, output: Callable[[], str] = str
) -> None:
    """Wait until `has_happened()`. Raise MeasurementFailed, with `output()`, after ten minutes."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not has_happened():
        if time.monotonic() > deadline:
            raise MeasurementFailed(f"{what} did not happen in {_TIMEOUT_SECONDS:.0f} s:\n{output()[-2000:]}")
        time.sleep(every)


class DeployedProcess:
    """A process of a stage."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def process_ids(self) -> Iterator[int]:
        """Yield its pid and those of its children."""
        yield self.pid
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        yield from map(int, listed.split())

    def wait_until(self, has_happened: Callable[[], Any], what: str) -> None:
        """Wait until `has_happened()`. Raise MeasurementFailed if the process ends before, or after ten minutes."""

        def reached() -> bool:
            ended = self.process.poll() is not None
            if not (found := bool(has_happened())) and ended:
                raise MeasurementFailed(f"{self.name} ended before {what}:\n{self.output[-2000:]}")
            return found

        wait_until(reached, what, output=lambda: self.output)

    def wait(self) -> None:
        """Wait until it has ended. Raise MeasurementFailed if it failed, or after ten minutes."""
        wait_until(lambda: self.process.poll() is not None, f"the end of {self.name}", output=lambda: self.output)
        if code := self.process.returncode:
            raise MeasurementFailed(f"{self.name} ended with {code}:\n{self.output[-2000:]}")

    def stop(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            child_processes.stop(self.process, seconds=_STOP_SECONDS)


class Deployment:
    """A Redis and the processes that use it.

    Redis rewrites its file when it has doubled: that is production, and comes at moments of its own. Comparisons of
    a few seconds switch it off for all contestants alike (`rewrites=False`).
    """

    __test__ = False  # its name does not make it a class of tests

    def __init__(self, *, rewrites: bool = False) -> None:
        self._rewrites = rewrites
        self._stack = ExitStack()
        self.processes: list[DeployedProcess] = []

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="callbacks-bench-", dir=disk_folder()))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            server = self._stack.enter_context(EmbeddedRedis(self.folder / "redis"))
            self.redis_url = server.url
            # Any, as redis-py's types of answers say bytes or str, and here they are always bytes.
            self.redis: Any = connections.connect(self.redis_url)
            self._stack.callback(self.redis.close)
            if not self._rewrites:
                self.redis.config_set("auto-aof-rewrite-percentage", 0)
            self._rewrite()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _rewrite(self) -> None:
        """Rewrite the file once, as the web process would at its start, and what is written could not be measured."""
        self.redis.bgrewriteaof()

        def is_rewritten() -> bool:
            info = self.redis.info("persistence")
            return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]

        wait_until(is_rewritten, "the end of Redis's rewrite of its file")

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> DeployedProcess:
        """Start a process in the repository's folder, with REDIS_URL set; stopped in reverse order at the end."""
        log = self.folder / f"{len(self.processes)}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
        with log.open("wb") as output:
            process = child_processes.start(
                command,
                cwd=REPOSITORY,
                environment={**inherited, "PYTHONPATH": str(REPOSITORY), "REDIS_URL": self.redis_url}
                | dict(environment or {}),
                output=output,
            )
        started = DeployedProcess(name, process, log)
        self.processes.append(started)
        self._stack.callback(started.stop)
        return started

    def serve(self, name: str, command: Sequence[str], url: "TargetUrl") -> None:
        """Start a server, and wait until it answers."""
        self.start(name, command).wait_until(url.answers, "its first answer")

    def callbacks(
        self, *arguments: str, handlers: str = "benchmarks.several_handlers", **environment: str
    ) -> DeployedProcess:
        """Start `callbacks …`."""
        settings = {
            "CALLBACKS_TOKENS": f"benchmark={TOKEN}",
            "CALLBACKS_ALLOWED_IPS": "127.0.0.1",
            "CALLBACKS_SPOOL_DIR": str(self.folder / "spool"),
            "CALLBACKS_HANDLERS": handlers,
            "CALLBACKS_LOG_LEVEL": "WARNING",
        }
        return self.start(
            "callbacks " + " ".join(arguments),
            [sys.executable, "-m", "callbacks.cli.main", *arguments],
            settings | environment,
        )

    def web(self, **environment: str) -> "TargetUrl":
        """Start `callbacks web`, wait until it answers, and return the URL of status callbacks."""
        return self.web_process(**environment)[0]

    def web_process(self, **environment: str) -> "tuple[TargetUrl, DeployedProcess]":
        """Do the same, and return the process too."""
        url = TargetUrl(free_port(), f"/callbacks/{TOKEN}/status")
        started = self.callbacks("web", "--port", str(url.port), **environment)
        started.wait_until(url.answers, "its first answer")
        return url, started

    def workers(self, *, handlers: str = "benchmarks.several_handlers", **environment: str) -> list[DeployedProcess]:
        """Start a worker of each stage, and wait until both are there."""
        started = [self.callbacks("worker", stage, handlers=handlers, **environment) for stage in ("expand", "deliver")]
        started[-1].wait_until(lambda: self.redis.scard("rq:workers") == len(started), "two workers")
        return started

    def service(self, **environment: str) -> "TargetUrl":
        """Start a whole service with one batch handler that does nothing; return the URL of status callbacks."""
        self.workers(BENCHMARK_BATCH="yes", **environment)
        return self.web(**environment)


class TargetUrl:
    """Where a contestant takes callbacks."""

    def __init__(self, port: int, path: str = "/callbacks") -> None:
        self.port = port
        self.path = path

    def __str__(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def connect(self) -> socket.socket:
        """Return a connection that sends at once."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def answers(self) -> bool:
        """Return whether the server answers."""
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
            # A server with several processes listens before they are there to answer.
            probe.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            try:
                return probe.recv(1) != b""
            except OSError:
                return False

    def request(self, body: bytes) -> bytes:
        """Return the POST of `body`, as the gateway sends it."""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: application/json; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body
