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
from shared import settings
from shared.errors import CallbacksError

_PARTS: Final = {"web": ["web"], "expand": ["worker", "expand"], "deliver": ["worker", "deliver"], "ops": ["ops"]}
# What they print is how to reach them, which `dev` prints itself. Workers print what their handlers print.
_WORKERS: Final = ("expand", "deliver")
_SILENT: Final = frozenset(("web", "ops"))
_START_SECONDS: Final = 30.0
_LOG_TAIL_CHARACTERS: Final = 1500


class ProcessEnded(CallbacksError):
    """A process of the service ended unexpectedly. `is_worker`: `restart_workers` can start it again."""

    def __init__(self, problem: str, *, is_worker: bool) -> None:
        self.is_worker = is_worker
        super().__init__(problem)


class Service:
    """The processes, with their files in `folder`; with the operators' page if `ops_url` is given.

    `environment` is added to this process's, and has the addresses of `url` and `ops_url`; REDIS_URL is that of the
    private Redis. With `quiet` each process's output goes to `folder`/<name>.log, otherwise where ours goes. Entering
    the context starts Redis; raises CallbacksError if a process does not start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        url: str,
        environment: Mapping[str, str],
        quiet: bool,
        ops_url: str | None = None,
    ) -> None:
        self.folder = folder
        self.redis = EmbeddedRedis(folder / "redis")
        self._url = url
        self._ops_url = ops_url
        self._own_environment = environment
        self._names = [part for part in _PARTS if part != "ops" or ops_url is not None]
        self._quiet = quiet
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.redis)
        self._stack.callback(self._stop_parts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start the processes, and wait until they are ready."""
        for part in self._names:
            self._start(part)
        self._wait_for("web", f"{self._url}/readyz")
        if self._ops_url is not None:
            self._wait_for("ops", f"{self._ops_url}/livez")

    def restart_workers(self) -> None:
        """Stop the workers and start new ones, which import the handlers' modules as they are now."""
        running = [self._parts.pop(part) for part in _WORKERS if part in self._parts]
        for process in running:
            process.terminate()
        for process in running:
            child_processes.stop(process)
        for part in _WORKERS:
            self._start(part)

    def check(self) -> None:
        """Raise ProcessEnded if a process has ended, once for each, with the end of its log."""
        for part, process in list(self._parts.items()):
            code = process.poll()
            if code is not None:
                del self._parts[part]
                command = " ".join(_PARTS[part])
                raise ProcessEnded(
                    f"`callbacks {command}` ended with exit code {code}{self._log_tail(part)}",
                    is_worker=part in _WORKERS,
                )

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the processes."""
        own = {**self._own_environment, "REDIS_URL": self.redis.url}
        # The user may have set the file instead, and both together are an error.
        files = {
            f"{each.variable}_FILE": ""
            for each in settings.BY_FIELD.values()
            if each.from_file and each.variable in own
        }
        return {**os.environ, **own, **files}

    def _start(self, part: str) -> None:
        environment = self.environment
        command = launcher.command("callbacks.launcher", *_PARTS[part])
        if not self._quiet:
            self._parts[part] = child_processes.start(command, environment=environment, errors_only=part in _SILENT)
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

    def _wait_for(self, part: str, url: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not reach this machine
        while time.monotonic() < deadline:
            self.check()
            try:
                with direct.open(url, timeout=2):
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
