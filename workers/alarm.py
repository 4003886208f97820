"""A time limit for a blocking call, by the process's one alarm clock (SIGALRM, ITIMER_REAL).

Only the main thread can be interrupted this way. A call that hangs in C code without ever returning to Python
hears nothing: `watchdog` ends its process.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from workers.signals import HandlerTimeout

# How long a call that was told its time is up may clean up before it is told again; less if its time was less.
REPEAT_SECONDS: Final = 1.0


def within(timeout_seconds: float, function: Callable[[Any], Any], argument: Any) -> Any:
    """Call `function(argument)`; once `timeout_seconds` are over, raise HandlerTimeout in it until it ends.

    An alarm that was set before (RQ's, for the whole job) is suspended meanwhile and then goes on where it would
    be, so it comes late by one call at most, and never inside the handler. Raises ValueError in other threads.
    """
    inside = False

    def ring(_signum: int, _frame: FrameType | None) -> None:
        if inside:
            raise HandlerTimeout(timeout_seconds)

    # In this order an outer alarm that rings now still finds its own signal handler.
    outer_seconds, outer_interval = signal.setitimer(signal.ITIMER_REAL, 0)
    began = time.monotonic()
    outer = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, timeout_seconds, repeat_seconds(timeout_seconds))
        inside = True
        return function(argument)
    finally:
        inside = False  # before anything else: from here on a late ring changes nothing
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if outer is None else outer)
        if outer_seconds:
            left = outer_seconds - (time.monotonic() - began)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), outer_interval)


def repeat_seconds(timeout_seconds: float) -> float:
    """Give the pause between two rings for a call that goes on although its time is over."""
    return min(REPEAT_SECONDS, timeout_seconds)
