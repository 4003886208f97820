"""The time limit of a handler's call: an alarm for blocking calls, and a watchdog for calls that hang in C code.

The alarm is the process's one timer (SIGALRM, ITIMER_REAL). It raises HandlerTimeout in the main thread, as soon as the
call returns to Python. A call that never does is not interrupted: then the watchdog ends the process. faulthandler's
timer is a thread in C, so it runs even then; it writes the stack of each thread (no values) to standard error. The
supervisor requeues the job and starts another process; what hangs repeatedly moves to the failures like anything else
that kills workers.
"""

import faulthandler
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

from workers.signals import HandlerTimeout

# How long a call may clean up after HandlerTimeout before it gets the next one; its own time-out if that is shorter.
REPEAT_SECONDS: Final = 1.0
# What the alarm and the event loop need to end a call in Python's own way on a busy machine.
GRACE_SECONDS: Final = 5.0


class Alarm:
    """The process's timer: while it is entered, each `call` has `timeout_seconds`.

    To set the timer for each call and to stop it again would cost more than most calls do (some 15 µs). It runs on from
    call to call instead; if it fires too early, it is set for the rest of the call's time.

    A timer that was set before is suspended meanwhile and continues afterwards, so it fires late, and never inside a
    call. Entering raises ValueError outside the main thread.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._deadline = 0.0
        self._inside = False
        self._is_set = False

    def __enter__(self) -> Self:
        # In this order an outer timer that fires now still finds its own signal handler.
        self._outer_seconds, self._outer_interval = signal.setitimer(signal.ITIMER_REAL, 0)
        self._began = time.monotonic()
        self._outer = signal.signal(signal.SIGALRM, self._fire)
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
            # Before the timer is checked: should it fire right now, it is set again.
            self._inside = True
            if not self._is_set:
                self._set(self._timeout_seconds)
            return function(argument)
        finally:
            self._inside = False  # from here on a late signal changes nothing

    def _set(self, seconds: float) -> None:
        self._is_set = True
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def _fire(self, _signum: int, _frame: FrameType | None) -> None:
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
    """Return the seconds between two HandlerTimeouts for a call that continues although its time is over."""
    return min(REPEAT_SECONDS, timeout_seconds)


class Watchdog:
    """Ends this process if a call takes much longer than `timeout_seconds`."""

    def __init__(self, timeout_seconds: float) -> None:
        self._seconds = timeout_seconds + GRACE_SECONDS

    def arm(self) -> None:
        """Expect `arm` or `disarm` within a call's time and GRACE_SECONDS. Costs some 30 µs: not for each event."""
        faulthandler.dump_traceback_later(self._seconds, exit=True)

    def disarm(self) -> None:
        """Expect nothing until the next `arm`."""
        faulthandler.cancel_dump_traceback_later()
