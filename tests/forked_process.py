"""The process behind `tests.forkserver`: imports the service, then forks for each order, which the child runs.

It has one thread and no connection or file of the service's, so that a fork has no lock that another thread holds.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from callbacks import launcher
from callbacks.cli import exit_with_parent

_COMMAND: Final = "from callbacks.cli.main import main\nmain(prog_name='callbacks')"
_PRELOADED: Final = (
    *(f"callbacks.cli.{name}" for name in ("main", "web", "worker", "ops", "dead", "quarantine", "handlers", "audit")),
    *(f"callbacks.cli.{name}" for name in ("check", "demo", "dev", "message", "messages", "simulate", "tail", "top")),
    *("workers.process", "uvicorn.loops.uvloop", "uvicorn.lifespan.on", "uvicorn.protocols.http.httptools_impl"),
)
_PR_SET_CHILD_SUBREAPER: Final = 36


def main(options: Mapping[str, Any]) -> None:
    for name in (*_PRELOADED, *options["preload"]):
        importlib.import_module(name)
    _shorten(options["shorter_waits"])
    if options["fork_children"]:
        _ForkedChild.preloaded = frozenset(sys.modules)
        subprocess.Popen = _ForkedChild  # type: ignore[assignment,misc]
    if threading.active_count() > 1:
        raise RuntimeError(f"a fork would copy locks of the threads {threading.enumerate()}")
    # No collection reads what stays for the process's life, so that forks do not copy it for that.
    gc.collect()
    gc.freeze()
    # Workers whose supervisor was killed become this process's children, so that the tests find them.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _run_orders()
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)


def _shorten(waits: Iterable[tuple[str, str, float]]) -> None:
    for module, name, seconds in waits:
        found = importlib.import_module(module)
        if getattr(found, name) < seconds:
            raise ValueError(f"{module}.{name} would be slowed down")
        setattr(found, name, seconds)


def _run_orders() -> None:
    """Fork for each line of standard input, and report starts and ends, until the input ends."""
    awake, wake = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    unread = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(awake, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if awake in ready:
                with suppress(BlockingIOError):
                    os.read(awake, 1 << 10)
                _reap()
            if 0 not in ready:
                continue
            data = os.read(0, 1 << 16)
            if not data:
                return
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    _run_order(json.loads(line))
                _answer("started", pid)


def _reap() -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            _answer("ended", ended[0], os.waitstatus_to_exitcode(ended[1]))


def _answer(what: str, pid: int, code: int = 0) -> None:
    os.write(1, json.dumps([what, pid, code]).encode() + b"\n")


def _run_order(order: Mapping[str, Any]) -> None:
    for descriptor, file in ((1, order["output"]), (2, order["errors"])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _reset_process(keep={0, 1, 2}, environment=order["environment"])
    os.chdir(order["cwd"])
    _shorten(order["shorter_waits"])
    # What the interpreter puts first: the folder of the command's file, or for a program the current folder.
    sys.path[0] = str(Path(sys.executable).parent) if order["program"] is None else ""
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    importlib.invalidate_caches()
    sys.argv = ["callbacks", *order["arguments"]]
    # A process that multiprocessing starts imports its parent's main module, which must not be this one.
    program = sys.modules["__main__"] = ModuleType("__main__")
    _customize()
    code = compile(order["program"] or _COMMAND, "<string>", "exec")
    _run_and_exit(lambda: exec(code, program.__dict__))


def _reset_process(*, keep: set[int], environment: Mapping[str, str]) -> None:
    """Make this fork what a started process is: no files and no signal handlers of its parent's."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGTERM, signal.SIGCHLD):
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
    time.tzset()


def _run_and_exit(run: Any) -> None:
    """Call `run` and end this process as the interpreter does, whatever `run` raises."""
    code = 1
    try:
        run()
        code = 0
    except SystemExit as exc:
        if isinstance(exc.code, str):
            sys.stderr.write(exc.code + "\n")
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        code = -signal.SIGINT
    except BaseException:  # noqa: BLE001 # nothing of it may reach the code that forked
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(Exception):
            threading._shutdown()  # type: ignore[attr-defined] # waits for threads, as the interpreter does at its end
        with suppress(Exception):
            atexit._run_exitfuncs()
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        if code < 0:
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code)


class _ForkedChild(subprocess.Popen[bytes]):
    """Forks where `subprocess.Popen(launcher.command(MODULE, …))` starts an interpreter."""

    preloaded = frozenset[str]()

    def _execute_child(  # noqa: PLR0917 # as subprocess has it
        self,
        args: Sequence[str],
        executable: str | None,
        preexec: object,
        close_fds: bool,
        pass_fds: Iterable[int],
        cwd: str | Path | None,
        env: Mapping[str, str] | None,
        startup: object,
        flags: int,
        shell: bool,
        *others: Any,
    ) -> None:
        tied, launched = _launched(args)
        if not launched:
            execute: Any = super()._execute_child  # type: ignore[misc] # a private part of subprocess
            execute(args, executable, preexec, close_fds, pass_fds, cwd, env, startup, flags, shell, *others)
            return
        standard_input, _, _, output, _, errors = others[:6]
        self.pid = os.fork()
        self._child_created = True
        if self.pid:
            self._close_pipe_fds(*others[:6])  # type: ignore[attr-defined]
            return

        def run() -> None:
            for given, own in ((standard_input, 0), (errors, 2), (output, 1)):
                if given != -1:
                    os.dup2(given, own)
            _reset_process(keep={0, 1, 2, *pass_fds}, environment=dict(os.environ if env is None else env))
            if cwd is not None:
                os.chdir(cwd)
            if tied:
                ctypes.CDLL(None).prctl(exit_with_parent._PR_SET_PDEATHSIG, signal.SIGTERM)
            # Handlers are imported by each process itself, as they are now.
            for name in [name for name in sys.modules if name not in self.preloaded and not _is_installed(name)]:
                del sys.modules[name]
            _customize()
            sys.argv, sys.orig_argv = launched, list(args)
            sys.exit(importlib.import_module(launched[0]).main())

        _run_and_exit(run)


def _customize() -> None:
    """Import what the interpreter imports at its start, if PYTHONPATH has it."""
    sys.modules.pop("sitecustomize", None)
    with suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")


def _launched(command: Sequence[str]) -> tuple[bool, list[str]]:
    """Return whether a process is tied to its parent, and its module with its arguments, if it is one of ours."""
    launch, tie = launcher.command(""), launcher.command(exit_with_parent.__name__)
    tied = list(command[: len(tie)]) == tie
    own = list(command[len(tie) :] if tied else command)
    return tied, own[len(launch) - 1 :] if own[: len(launch) - 1] == launch[:-1] else []


def _is_installed(name: str) -> bool:
    """Whether a module is a library or built in."""
    file = getattr(sys.modules[name], "__file__", None)
    return file is None or file.startswith((sys.prefix, sys.base_prefix))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
