"""`callbacks worker` in a process of its own, with its workers, and waiting for what they bring about."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import forkserver
from tests.integration.harness import Harness

REPOSITORY = Path(__file__).parents[3]
WAIT_SECONDS = 60.0
HANDLERS = "tests.integration.recorders"

_HURRIED = """
import os, sys
from shared import connections
from workers.runtime.maintenance import Maintenance
from workers.runtime.journal_folder import JournalFolder
from workers.runtime.supervisor import Supervisor
queues = ["deliver-single"]
connection = connections.connect(os.environ["REDIS_URL"])
journals = JournalFolder.from_run_dir(os.environ["CALLBACKS_RUN_DIR"])
maintenance = Maintenance(queues, connection=connection, journals=journals)
sys.exit(Supervisor(queues, maintenance=maintenance, grace_seconds=0.5).run())
"""


class Command:
    """A supervisor with its workers; ended, with all of them, when the test is over."""

    program = "from callbacks.cli.worker import worker\nworker(prog_name='callbacks worker')"

    def __init__(self, harness: Harness, log: Path, *arguments: str, **environment: str) -> None:
        self._log = log
        self.process = forkserver.shared().start(
            *arguments,
            log=log,
            cwd=REPOSITORY,
            environment={
                **os.environ,
                "REDIS_URL": harness.url,
                "CALLBACKS_HANDLERS": HANDLERS,
                "CALLBACKS_RUN_DIR": str(log.parent / "run"),
                **environment,
            },
            program=self.program,
        )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def workers(self) -> list[int]:
        """Return the pids of the workers that it has now."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def stop(self) -> int:
        """Ask it to stop, once it listens to that, and return its exit code."""
        # A pool that had nothing to do may be asked before that, and would end by the signal.
        until(lambda: catches(self.process.pid, signal.SIGTERM) or self.process.poll() is not None, "SIGTERM is caught")
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_SECONDS)

    def kill(self) -> None:
        """Kill the supervisor and its workers at once, as the end of a container does."""
        for pid in (self.process.pid, *self.workers()):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            workers = self.workers()
            self.process.kill()
            self.process.wait()
            for pid in workers:
                until(lambda pid=pid: not alive(pid), f"worker {pid} outlived its supervisor")  # type: ignore[misc]


class Hurried(Command):
    """A supervisor of one worker for the handler `single`, which it kills half a second after it asked it to stop."""

    program = _HURRIED


def until(true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def catches(pid: int, signum: signal.Signals) -> bool:
    """Return whether a process has a handler of its own for a signal."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = int(next(line.split()[1] for line in lines if line.startswith("SigCgt:")), 16)
    return bool(caught >> (signum - 1) & 1)
