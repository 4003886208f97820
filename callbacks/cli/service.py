"""The whole service on this machine, for `dev` and `demo`: a private Redis, the web process, both worker pools.

They start in this order. The web process stops first, so that nothing new arrives while the rest stops: at most
STOP_SECONDS for each process, and 1 s for Redis. Unfinished work stays in Redis.
"""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
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
_SILENT: Final = frozenset(("web", "ops"))
_START_SECONDS: Final = 30.0
_LOG_TAIL_CHARACTERS: Final = 1500


class ProcessEnded(CallbacksError):
    """A process of the service ended unexpectedly."""


class Service:
    """The processes, with their files in `folder`; with the operators' page if `ops_url` is given.

    `environment` is added to this process's, and has the addresses of `url` and `ops_url`; REDIS_URL is that of the
    private Redis. `prepare` is called with all of it when Redis has started and nothing else. With `quiet` each
    process's output goes to `folder`/<name>.log, otherwise where ours goes. Raises CallbacksError if a process does not
    start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        url: str,
        environment: Mapping[str, str],
        quiet: bool,
        ops_url: str | None = None,
        prepare: Callable[[Mapping[str, str]], None] | None = None,
    ) -> None:
        self.folder = folder
        self.redis = EmbeddedRedis(folder / "redis")
        self._url = url
        self._ops_url = ops_url
        self._own_environment = environment
        self._prepare = prepare
        self._names = [part for part in _PARTS if part != "ops" or ops_url is not None]
        self._quiet = quiet
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.redis)
            self._stack.callback(self._stop_parts)
            environment = self._environment()
            if self._prepare is not None:
                self._prepare(environment)
            for part in self._names:
                self._start(part, environment)
            self._wait_for("web", f"{self._url}/readyz")
            if self._ops_url is not None:
                self._wait_for("ops", f"{self._ops_url}/livez")
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

    def _environment(self) -> dict[str, str]:
        own = {**self._own_environment, "REDIS_URL": self.redis.url}
        # The user may have set the file instead, and both together are an error.
        files = {f"{variable}_FILE": "" for variable in settings.FROM_FILE if variable in own}
        return {**os.environ, **own, **files}

    def _start(self, part: str, environment: Mapping[str, str]) -> None:
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
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(url, timeout=2):  # noqa: S310 # our own, of http
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
