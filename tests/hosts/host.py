"""A host: a network namespace, a folder as its disk, a clock, and the processes that run on it."""

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from callbacks.cli.child_processes import tied_to_parent
from tests import forkserver
from tests.acceptance.processes import CALLBACKS
from tests.environment import stripped_environment
from tests.forkserver import ForkedProcess
from tests.hosts.clock import Clock
from tests.hosts.namespaces import Namespace

Process: TypeAlias = "subprocess.Popen[bytes] | ForkedProcess"

# The fork server is on no host: what it starts first goes to its own.
_COMMAND_ON_HOST: Final = """
import ctypes, os
for path in {paths}:
    if ctypes.CDLL(None).setns(os.open(path, os.O_RDONLY), 0):
        raise SystemExit(f"cannot enter {{path}}")
from callbacks.cli.main import main
main(prog_name="callbacks")
"""


class Host:
    """`restarts` counts the processes of the service that ended by themselves. `own_clock`: it has one to be set."""

    def __init__(self, namespace: Namespace, address: str, folder: Path, *, own_clock: bool = False) -> None:
        self.name = namespace.name
        self.address = address
        self.folder = folder / namespace.name
        self.folder.mkdir()
        self._namespace = namespace
        self.clock = Clock(self.folder / "clock") if own_clock else None
        self._started: dict[str, tuple[tuple[str, ...], Mapping[str, str]]] = {}
        self._running: dict[str, Process] = {}
        self.restarts = 0

    def run(self, name: str, *command: str) -> None:
        """Start a program that is not the service's; its output is `NAME.log` in the host's folder."""
        self._start(name, tied_to_parent(command), {})

    def run_service(self, name: str, *arguments: str, **environment: str) -> None:
        """Start `callbacks …`; `revive` starts it again if it has ended."""
        self._started[name] = (arguments, environment)
        if self.clock is not None:
            self._start(name, tied_to_parent([CALLBACKS, *arguments]), environment)
            return
        self._running[name] = forkserver.shared().start(
            *arguments,
            program=_COMMAND_ON_HOST.format(paths=self._namespace.paths),
            log=self.log_file(name),
            cwd=self.folder,
            environment={**stripped_environment(), "PYTHONUNBUFFERED": "1", **environment},
        )

    def process(self, name: str) -> Process:
        """Return the process that was started by this name."""
        return self._running[name]

    def log_file(self, name: str) -> Path:
        """Return the file that has the output of a process."""
        return self.folder / f"{name}.log"

    def revive(self) -> None:
        """Start what has ended of the service, as a platform would."""
        for name, (arguments, environment) in list(self._started.items()):
            if self._running[name].poll() is not None:
                self.restarts += 1
                self.run_service(name, *arguments, **environment)

    def freeze(self) -> None:
        """Stop all processes here: connections stay open, and nobody answers."""
        # Repeated, as one that is not stopped yet may start another.
        stopped: set[int] = set()
        while new := set(self._namespace.processes()) - stopped:
            _signal(new, signal.SIGSTOP)
            stopped |= new

    def thaw(self) -> None:
        """Let all processes here run on."""
        _signal(self._namespace.processes(), signal.SIGCONT)

    def end(self) -> None:
        """Kill all that runs here."""
        while running := self._namespace.processes():
            _signal(running, signal.SIGKILL)
            for process in self._running.values():
                process.wait()

    def _start(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        clock = self.clock.environment if self.clock is not None else {}
        with self._namespace.entered(), self.log_file(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**stripped_environment(), **clock, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _signal(pids: Iterable[int], signum: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
