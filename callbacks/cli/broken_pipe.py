"""How a command without an end stops when its reader is gone, as in `callbacks tail | head`."""

import os
import select
import sys


def check_reader() -> None:
    """Raise BrokenPipeError if standard output is a pipe without a reader, which otherwise only a write would show."""
    if sys.stdout is None:  # closed from the start: there is no reader
        return
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    if any(state & select.POLLERR for _, state in watch.poll(0)):
        raise BrokenPipeError


def discard_output() -> None:
    """Discard the output that is still buffered, which would raise an error when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
