"""What a command that goes on and on does when nobody reads it any more, as in `callbacks tail | head`: it ends."""

import os
import select
import sys


def check_reader() -> None:
    """Raise BrokenPipeError if standard output is a pipe that nobody reads any more, which only a write would tell."""
    if sys.stdout is None:  # closed from the start: nobody is meant to read
        return
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    if any(state & select.POLLERR for _, state in watch.poll(0)):
        raise BrokenPipeError


def discard_output() -> None:
    """Let what is still buffered go nowhere, as the end of the process would complain about it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
