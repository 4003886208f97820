"""Real processes of the service, each with its output in a file.

The fork server (`tests.forkserver`) starts them, in a tenth of the time; with `forked=False` they start as a user
starts them, where the start itself is what a test is about.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from tests import forkserver
from tests.forkserver import ForkedProcess

REPOSITORY: Final = Path(__file__).parents[2]
CALLBACKS: Final = str(Path(sys.executable).with_name("callbacks"))
WAIT_SECONDS: Final = 60.0
TOKEN: Final = "acceptance-token-4b1d"
# Makes a process call the handlers of `traced_handlers`, in whatever folder it is started.
HANDLERS: Final = {"CALLBACKS_HANDLERS": "tests.acceptance.traced_handlers", "PYTHONPATH": str(REPOSITORY)}


class Running:
    """A process, its pid and what it has written; ended by its own pid only."""

    def __init__(
        self,
        command: list[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        log: Path,
        forked: bool = False,
        shorter_waits: Sequence[tuple[str, str, float]] = (),
    ) -> None:
        self.command = command
        self.log = log
        log.write_bytes(b"")
        self._is_asked_to_stop = False
        self.process: subprocess.Popen[bytes] | ForkedProcess
        if forked:
            self.process = forkserver.shared().start(
                *command[1:],
                log=log,
                cwd=cwd,
                environment={**os.environ, **environment},
                shorter_waits=shorter_waits,
            )
            return
        with log.open("wb") as output:
            # A session of its own, so that its descendants can be found by it, and Ctrl-C of the tests is not theirs.
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def wait(self, seconds: float = WAIT_SECONDS) -> int:
        return self.process.wait(seconds)

    def ask_to_stop(self) -> None:
        """Send SIGTERM, once, as a platform does."""
        if not self._is_asked_to_stop and self.process.poll() is None:
            self._is_asked_to_stop = True
            self.process.terminate()

    def stop(self) -> int:
        """End it as a platform does; give its exit code."""
        self.ask_to_stop()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.command} did not stop:\n{self.output}") from None

    def until(self, true: Callable[[], object], what: str, *, pause_seconds: float = 0.05) -> None:
        """Wait until `true()`; fail with the output if the process ends or time runs out."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not true():
            assert self.process.poll() is None, f"{self.command} ended before {what}:\n{self.output}"
            assert time.monotonic() < deadline, f"{what} did not happen:\n{self.output}"
            time.sleep(pause_seconds)

    def wait_for_output(self, words: str) -> None:
        """Wait until it has written `words`."""
        self.until(lambda: words in self.output, repr(words))


@contextmanager
def started(
    folder: Path,
    environment: Mapping[str, str],
    *,
    forked: bool = True,
    shorter_waits: Sequence[tuple[str, str, float]] = (),
) -> Iterator[Callable[..., Running]]:
    """Yield a function that starts `callbacks …` (or another command) in `folder`; stop all that it started.

    `shorter_waits` are constants of the service to replace in what is forked: module, name, seconds.
    """
    with ExitStack() as stack:
        all_started: list[Running] = []

        def start(*arguments: str, command: str = CALLBACKS, **extra: str) -> Running:
            running = Running(
                [command, *arguments],
                cwd=folder,
                environment={**environment, **extra},
                log=folder / f"{len(all_started) + 1}.log",
                forked=forked and command == CALLBACKS,
                shorter_waits=shorter_waits,
            )
            all_started.append(running)
            stack.callback(running.stop)
            return running

        try:
            yield start
        finally:
            # All at once, as each takes a second or two.
            for running in reversed(all_started):
                running.ask_to_stop()


def run(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None, forked: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run `callbacks …` to its end."""
    if forked:
        return forkserver.run(*arguments, cwd=cwd, environment={**os.environ, **(environment or {})}, seconds=300)
    return subprocess.run(
        [CALLBACKS, *arguments],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def get(url: str) -> tuple[int, Any]:
    """Return the status and the JSON of an answer; (0, None) if nobody listens, or answers in time."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.load(exc)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0, None


def descendants_of(folder: Path) -> dict[int, str]:
    """Return the processes that work in `folder` or below, by pid: none is the right answer after an end."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            cwd = (entry / "cwd").readlink()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # ended meanwhile, or not ours
        if cwd.is_relative_to(folder) and command:
            found[int(entry.name)] = command
    return found


def assert_nothing_left(folder: Path) -> None:
    """Fail if a process is still at work in `folder` a moment after the end."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (left := descendants_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, left


INTERRUPT: Final = signal.SIGINT
