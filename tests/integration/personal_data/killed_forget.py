"""`callbacks forget NUMBER --json` in a process that kills itself before one of its steps.

A step is a command to Redis, a statement or a commit in the database, and each change of a file's name or content that
another process could see. The arguments are the number, the step (0: none), and a file that gets the number of steps.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis.connection import Connection
from sqlalchemy.engine.default import DefaultDialect

from callbacks import disk
from callbacks.cli.main import main
from workers.personal_data import sql_tables


class StepCounter:
    """Counts steps, and ends the process before one of them."""

    def __init__(self, kill_before: int) -> None:
        self.count = 0
        self._kill_before = kill_before

    def watch(self, owner: Any, *names: str) -> None:
        """Count each call of these functions as a step."""
        for name in names:
            setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self._kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return counted


def run(number: str, kill_before: str, counts: str) -> None:
    """Run the command."""
    steps = StepCounter(int(kill_before))
    steps.watch(Connection, "send_packed_command")
    steps.watch(DefaultDialect, "do_execute", "do_executemany", "do_commit")
    steps.watch(sql_tables, "_rewrite_file")
    steps.watch(disk, "sync_file", "sync_folder")
    steps.watch(Path, "replace", "unlink")
    try:
        main(["forget", number, "--json"])
    finally:
        Path(counts).write_text(str(steps.count))


if __name__ == "__main__":
    run(*sys.argv[1:])
