"""What a handler says beyond "done" and "failed", and what it hears when its time is up.

Exception
├── Retry            the handler: not now, give me this event again
├── Pause            the handler: my target is away, give me nothing for a while
└── Reject           the handler: never again, set this event aside
BaseException
└── HandlerTimeout   us, inside the handler: your time is up, clean up and leave
"""

import math


class Retry(Exception):
    """Asks for another attempt: raise it, or return it. It counts as an attempt.

    `after_seconds` is when, at the earliest; more than 30 days is 30 days, None leaves it to the handler's back-off.
    `reason` stands in the dead letter if this was the last attempt. Raises ValueError for a time that is negative or no
    number.
    """

    def __init__(self, after_seconds: float | None = None, reason: str = "") -> None:
        if after_seconds is not None:
            _check_seconds(after_seconds)
        self.after_seconds = after_seconds
        self.reason = reason
        super().__init__(reason or "the handler asked for another attempt")


class Pause(Exception):
    """Says that the handler's target is away: raise it, or return it. No attempt is spent.

    The handler's whole queue waits for `after_seconds`, in all its worker processes; less than a second is a second,
    more than a day a day. Then one event is tried first. `reason` is shown to operators, so it names no person.
    Raises ValueError for a time that is negative or no number.
    """

    def __init__(self, after_seconds: float, reason: str = "") -> None:
        _check_seconds(after_seconds)
        self.after_seconds = after_seconds
        self.reason = reason
        super().__init__(reason or "the handler asked for a pause")


class Reject(Exception):
    """Sets the event aside at once, as a dead letter with this `reason`: raise it, or return it."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason or "the handler rejected the event")


class HandlerTimeout(BaseException):
    """Raised inside a handler whose `timeout_seconds` are over, and again and again while it goes on.

    No Exception, as CancelledError is none, so that a handler's own `except Exception` does not keep it running;
    `finally` and `with` clean up as ever.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(f"not done after {timeout_seconds:g} s")


def _check_seconds(value: object) -> None:
    # Comparing takes any int, and no NaN is within.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"after_seconds must be a number of seconds from 0, not {value!r}")
