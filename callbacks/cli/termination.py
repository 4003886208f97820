"""Termination by a signal: SIGTERM and SIGHUP unwind the stack as Ctrl-C does, once."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(SystemExit):
    """A signal terminated this process; the exit code is the shell's convention for that signal.

    A SystemExit, as event loops pass on only that and KeyboardInterrupt.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


@contextmanager
def on_signal() -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP raise Terminated in the main thread, within.

    Only the first signal does: a second one does not interrupt the unwinding.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def terminate(signum: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise Terminated(signum)

    before = {number: signal.signal(number, terminate) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_zero_on_signal() -> None:
    """Have SIGTERM and Ctrl-C end this process with exit code 0, once uvicorn has drained.

    After draining, uvicorn raises the signal again for the handler that was installed before.
    """

    def exit_zero(_signum: int, _frame: object) -> None:
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, exit_zero)
