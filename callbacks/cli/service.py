"""The whole service on this machine, for `dev` and `demo`: a private Redis, the web process, both worker pools.

They start in this order. The web process stops first, so that nothing new arrives while the rest stops: at most
STOP_SECONDS for each process, and 1 s for Redis. Unfinished work stays in Redis.
"""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from callbacks import launcher
from callbacks.cli import child_processes
from callbacks.cli.embedded_redis import EmbeddedRedis
from shared.errors import CallbacksError

_PARTS: Final = {"web": ["web"], "expand": ["worker", "expand"], "deliver": ["worker", "deliver"], "ops": ["ops"]}
_START_SECONDS: Final = 30.0
_LOG_TAIL_CHARACTERS: Final = 1500


class ProcessEnded(CallbacksError):
    """A process of the service ended unexpectedly."""


class Service:
    """The processes, with their files in `folder`; with the operators' page if `ops_port` is given.

    `environment` is added to this process's; REDIS_URL is that of the private Redis. With `quiet` each process's output
    goes to `folder`/<name>.log, otherwise where ours goes. Raises CallbacksError if a process does not start.
    """

    def __init__(
        self, folder: Path, *, port: int, environment: Mapping[str, str], quiet: bool, ops_port: int | None = None
    ) -> None:
        self.folder = folder
        self.redis = EmbeddedRedis(folder / "redis")
        self._port = port
        self._ops_port = ops_port
        self._environment = {**environment, "CALLBACKS_OPS_PORT": str(ops_port or "")}
        self._names = [part for part in _PARTS if part != "ops" or ops_port is not None]
        self._quiet = quiet
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.redis)
            self._stack.callback(self._stop_parts)
            environment = {**os.environ, **self._environment, "REDIS_URL": self.redis.url, "PORT": str(self._port)}
            for part in self._names:
                self._start(part, _PARTS[part], environment)
            self._wait_for("web", self._port, "/readyz")
            if self._ops_port is not None:
                self._wait_for("ops", self._ops_port, "/livez")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def check(self) -> None:
        """Raise ProcessEnded if a process has ended, with the end of its log."""
        for part, process in self._parts.items():
            code = process.poll()
            if code is not None:
                raise ProcessEnded(
                    f"`callbacks {' '.join(_PARTS[part])}` ended with exit code {code}{self._log_tail(part)}"
                )

    def _start(self, part: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        command = launcher.command("callbacks.launcher", *arguments)
        if not self._quiet:
            self._parts[part] = child_processes.start(command, environment=environment)
            return
        with self._log(part).open("wb") as output:
            self._parts[part] = child_processes.start(command, environment=environment, output=output)

    def _stop_parts(self) -> None:
        web = self._parts.pop("web", None)
        if web is not None:
            child_processes.stop(web)
        for process in self._parts.values():
            process.terminate()
        for process in self._parts.values():
            child_processes.stop(process)
        self._parts.clear()

    def _wait_for(self, part: str, port: int, path: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise CallbacksError(f"`callbacks {part}` was not ready after {_START_SECONDS:.0f} s{self._log_tail(part)}")

    def _log(self, part: str) -> Path:
        return self.folder / f"{part}.log"

    def _log_tail(self, part: str) -> str:
        if not self._quiet:
            return ""
        return f":\n{self._log(part).read_text(errors='replace')[-_LOG_TAIL_CHARACTERS:]}"
