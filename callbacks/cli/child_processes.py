"""Child processes: not reached by Ctrl-C, stopped in bounded time, and never left running."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from callbacks import launcher

# Our processes end within two seconds of SIGTERM; after this time they are killed.
STOP_SECONDS: Final = 3.0


def start(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    errors_only: bool = False,
) -> subprocess.Popen[bytes]:
    """Start `command`. Its standard output and error go to `output`, or where ours go.

    With `errors_only` its standard output is discarded.
    """
    return subprocess.Popen(  # noqa: S603 # commands of this package
        tied_to_parent(command),
        cwd=cwd,
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if errors_only else output,
        stderr=None if output is None else subprocess.STDOUT,
        # Ctrl-C in the terminal goes to the whole process group: here only to us, and we stop the others in order.
        start_new_session=True,
    )


def tied_to_parent(command: Sequence[str]) -> list[str]:
    """Return the command line that runs `command` until its parent process dies; the process id is the command's."""
    return launcher.command("callbacks.cli.exit_with_parent", *command)


def stop(process: subprocess.Popen[bytes], *, seconds: float = STOP_SECONDS) -> None:
    """Ask the process to end, and kill it if it has not after `seconds`."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
