"""The end of a process whose handler hangs where Python cannot interrupt it: in C code that keeps the interpreter.

faulthandler's timer is a thread in C, so it fires all the same: it writes where every thread stands (places, no values)
to standard error and ends the process. The supervisor gives its job back and starts another; what hangs again and
again is set aside like anything else that kills workers.
"""

import faulthandler
from typing import Final

# What `alarm` and the event loop need to end a call in Python's own way, and a machine that is busy.
GRACE_SECONDS: Final = 5.0


class Watchdog:
    """Watches calls that may take `timeout_seconds` each."""

    def __init__(self, timeout_seconds: float) -> None:
        self._seconds = timeout_seconds + GRACE_SECONDS

    def arm(self) -> None:
        """Expect `arm` or `disarm` within the time of a call and some grace. Costs some 30 µs: not for every event."""
        faulthandler.dump_traceback_later(self._seconds, exit=True)

    def disarm(self) -> None:
        """Expect nothing until the next `arm`."""
        faulthandler.cancel_dump_traceback_later()
