"""Starts `callbacks …` in milliseconds: a process that has imported everything forks, the child becomes the command.

An interpreter's start costs half a second, and the suite that uses this needs thousands of processes. What runs is the
commands' own main function; a supervisor's workers are forked from it in the same way, each with nothing of its parent
but the environment and the files that it is to have. Pauses that only wait for better times are cut short.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.acceptance.processes import REPOSITORY
from tests.environment import stripped_environment

_PRELOADED: Final = (
    "callbacks.cli.main",
    "callbacks.cli.web",
    "callbacks.cli.worker",
    "callbacks.cli.dead",
    "callbacks.cli.quarantine",
    "workers.process",
)
_PRELOADED_TOO: Final = ("uvicorn.loops.uvloop", "uvicorn.lifespan.on", "httptools", "tests.chaos.recorder")
# Module, name, seconds instead of more. None of them decides what is kept or requeued, only when.
_SHORTER_WAITS: Final = (
    ("ingest.spool.drainer", "TICK_SECONDS", 0.02),
    ("ingest.spool.drainer", "PAUSE_SECONDS", 0.1),
    ("ingest.durability_gate", "RECHECK_SECONDS", 0.05),
    ("workers.runtime.maintenance", "_CHECK_SECONDS", 0.25),
    ("workers.runtime.worker", "_RETRY_SECONDS", 0.05),
    ("workers.runtime.redis_retry", "_RETRY_SECONDS", 0.05),
    ("workers.runtime.supervisor", "_TICK_SECONDS", 0.02),
)
_PR_SET_CHILD_SUBREAPER: Final = 36


class ForkServer:
    """The process that forks, and those that it has started; a context manager that ends them all."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.forkserver", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env={**stripped_environment(), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.kill_all()
        self._process.communicate()  # the end of its input is the end of it

    def start(self, log: Path, *arguments: str, environment: Mapping[str, str]) -> int:
        """Start `callbacks …` with its output at the end of `log`; give its pid."""
        order = json.dumps({"log": str(log), "arguments": arguments, "environment": dict(environment)})
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order.encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def processes(self) -> dict[int, str]:
        """Return the role of those that run by pid: what was started here is a "parent", its children are "worker"."""
        parents = children(self._process.pid)
        return {child: "worker" for parent in parents for child in children(parent)} | dict.fromkeys(parents, "parent")

    def kill_all(self) -> None:
        """End all that was started, without a word."""
        while running := self.processes():
            # Parents first, or they would start others. Workers whose parent is gone are the forkserver's own.
            for pid in sorted(running, key=lambda pid: running[pid]):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)


def children(pid: int) -> list[int]:
    """Return the pids of the children of a process that has one thread which starts them."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class _ForkedWorker(subprocess.Popen[bytes]):
    """What `subprocess.Popen(launcher.command(MODULE, …))` gives, but for the interpreter's start."""

    def _execute_child(
        self,
        args: Sequence[str],
        _executable: str | None,
        _preexec: object,
        _close_fds: bool,
        pass_fds: Iterable[int],
        _cwd: str | None,
        env: Mapping[str, str],
        *_: object,
    ) -> None:
        self.pid = os.fork()
        self._child_created = True
        if self.pid:
            return
        _reset_process(keep={0, 1, 2, *pass_fds}, environment=env)
        # Before the module: the interpreter, its option and the launcher.
        sys.argv = list(args[3:])
        _run_and_exit(lambda: sys.exit(importlib.import_module(args[3]).main()))


def _reset_process(*, keep: set[int], environment: Mapping[str, str]) -> None:
    """Make this fork what a started process is: no files and no signal handlers of its parent's."""
    os.setsid()
    for signum in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        # Replaced, not closed: objects of the parent's are still there, and would close another's file of that number.
        if descriptor not in keep and descriptor != nothing:
            with suppress(OSError):
                os.dup2(nothing, descriptor)
    os.environ.clear()
    os.environ.update(environment)


def _run_and_exit(main: Any) -> None:
    """Run `main` to its end and leave, whatever it does."""
    code = 1
    try:
        main()
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 # nothing of it may reach the code that forked
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run_command(order: Mapping[str, Any]) -> None:
    output = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    _reset_process(keep={0, 1, 2}, environment={**os.environ, **order["environment"]})
    from callbacks.cli.main import main  # noqa: PLC0415 # imported long before

    sys.argv = ["callbacks", *order["arguments"]]
    _run_and_exit(lambda: main(prog_name="callbacks"))


def _main() -> None:
    for name in (*_PRELOADED, *_PRELOADED_TOO):
        importlib.import_module(name)
    for module, name, seconds in _SHORTER_WAITS:
        found = importlib.import_module(module)
        if getattr(found, name) < seconds:
            raise ValueError(f"{module}.{name} would be slowed down")
        setattr(found, name, seconds)
    subprocess.Popen = _ForkedWorker  # type: ignore[assignment,misc]
    # No collection reads what stays for the process's life, so that forks do not copy it for that.
    gc.collect()
    gc.freeze()
    os.chdir(sys.argv[1])
    # Workers whose supervisor was killed come here, and not to the machine's first process, so that they are found.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who ends leaves nothing behind
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            _run_command(json.loads(line))
        sys.stdout.buffer.write(b"%d\n" % pid)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
