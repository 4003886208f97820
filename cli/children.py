"""Processes that belong to this one: started out of reach of Ctrl-C, stopped in bounded time, never left behind."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

# Ours end within a second or two of being asked; who does not is killed.
STOP_SECONDS: Final = 3.0


def start(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command`; its standard output and error go to `output`, or where ours go."""
    return subprocess.Popen(  # noqa: S603 # commands of this package
        list(command),
        cwd=cwd,
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        # Ctrl-C at the terminal goes to its whole group: here only to us, who stop the others in order.
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 # one system call, no lock
    )


def stop(process: subprocess.Popen[bytes], *, seconds: float = STOP_SECONDS) -> None:
    """Ask the process to end, and kill it if it has not after `seconds`."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# Loaded before any fork: between fork and exec only what needs no lock is safe.
_libc: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG: Final = 1


def _end_with_parent() -> None:
    """Have the kernel end the child when we die without a word."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
