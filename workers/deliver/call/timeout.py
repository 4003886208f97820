"""A time limit for blocking calls, by the process's one alarm clock (SIGALRM, ITIMER_REAL).

Only the main thread can be interrupted this way. A call that hangs in C code without ever returning to Python
hears nothing: `watchdog` ends its process.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

from workers.signals import HandlerTimeout

# How long a call that was told its time is up may clean up before it is told again; less if its time was less.
REPEAT_SECONDS: Final = 1.0


class Alarm:
    """The alarm clock in our hands: while it is entered, each `call` has `timeout_seconds`.

    Setting the clock for each call and stopping it again would cost more than most calls do (some 15 µs). It runs on
    from call to call instead; when it rings before its time, it is set for what is left of the call's.

    An alarm that was set before is suspended meanwhile and then goes on where it would be, so it comes late, and never
    inside a call. Entering raises ValueError in other threads than the main one.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._deadline = 0.0
        self._inside = False
        self._is_set = False

    def __enter__(self) -> Self:
        # In this order an outer alarm that rings now still finds its own signal handler.
        self._outer_seconds, self._outer_interval = signal.setitimer(signal.ITIMER_REAL, 0)
        self._began = time.monotonic()
        self._outer = signal.signal(signal.SIGALRM, self._ring)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if self._outer is None else self._outer)
        if self._outer_seconds:
            left = self._outer_seconds - (time.monotonic() - self._began)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), self._outer_interval)

    def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """Call `function(argument)`; once its time is over, raise HandlerTimeout in it until it ends."""
        self._deadline = time.monotonic() + self._timeout_seconds
        try:
            # Before the clock is looked at: should it ring right now, it is set anew.
            self._inside = True
            if not self._is_set:
                self._set(self._timeout_seconds)
            return function(argument)
        finally:
            self._inside = False  # from here on a late ring changes nothing

    def _set(self, seconds: float) -> None:
        self._is_set = True
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def _ring(self, _signum: int, _frame: FrameType | None) -> None:
        self._is_set = False
        if not self._inside:
            return
        left = self._deadline - time.monotonic()
        if left > 0:
            self._set(left)
            return
        self._set(repeat_seconds(self._timeout_seconds))
        raise HandlerTimeout(self._timeout_seconds)


def repeat_seconds(timeout_seconds: float) -> float:
    """Give the pause between two rings for a call that goes on although its time is over."""
    return min(REPEAT_SECONDS, timeout_seconds)
