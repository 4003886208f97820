"""What a handler can say besides success and failure, and the exception that it gets when its time is up.

Delivered            returned by the handler: success, and what the target answered

Exception
├── Retry            by the handler: try this event again later
├── Pause            by the handler: the target is unavailable, send no event for a while
└── Reject           by the handler: never this event again, it becomes a dead letter
BaseException
└── HandlerTimeout   by the service, inside the handler: the time is up, clean up and return
"""

import math
from typing import Final

# What the delivery log keeps of each delivered event, within a tenth of the file's bytes for a callback.
_ANSWER_CHARACTERS: Final = 64
_DETAIL_CHARACTERS: Final = 100


class Retry(Exception):
    """Ask for another attempt: raise it, or return it. It counts as an attempt.

    `after_seconds` is the least time until then; more than 30 days is 30 days, None is the usual backoff.
    `reason` is in the log, masked, and in the dead letter if this was the last attempt. Raise ValueError for a time
    that is negative or not a number.
    """

    def __init__(self, after_seconds: float | None = None, reason: str = "") -> None:
        if after_seconds is not None:
            _check_seconds(after_seconds)
        self.after_seconds = after_seconds
        self.reason = reason
        super().__init__(reason or "the handler asked for another attempt")


class Pause(Exception):
    """Say that the handler's target is unavailable: raise it, or return it. It does not count as an attempt.

    The handler's whole queue waits for `after_seconds`, in all its worker processes; less than a second is a second,
    more than a day is a day. Then one event is tried first. Operators see the `reason`, so it must not name a person.
    Raise ValueError for a time that is negative or not a number.
    """

    def __init__(self, after_seconds: float, reason: str = "") -> None:
        _check_seconds(after_seconds)
        self.after_seconds = after_seconds
        self.reason = reason
        super().__init__(reason or "the handler asked for a pause")


class Reject(Exception):
    """Make the event a dead letter at once, with this `reason`: raise it, or return it."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason or "the handler rejected the event")


class HandlerTimeout(BaseException):
    """Raised inside a handler whose `timeout_seconds` are over, repeatedly until the handler ends.

    Like CancelledError it is not an Exception, so a handler's own `except Exception` does not catch it; `finally` and
    `with` clean up as usual.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(f"not done after {timeout_seconds:g} s")


class Delivered:
    """Say that the event is done, and what the target answered: return it. Operators see it, masked.

    `answer`: a few words that are the same for most events, such as "answered 200". `detail`: what differs, such as the
    start of the response's body; it is left out where many differ within a moment. 64 and 100 characters are kept.
    """

    __slots__ = ("answer", "detail")

    def __init__(self, answer: str = "", detail: str = "") -> None:
        self.answer = str(answer)[:_ANSWER_CHARACTERS]
        self.detail = str(detail)[:_DETAIL_CHARACTERS]


def _check_seconds(value: object) -> None:
    # The comparison works for any int, and is false for NaN.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"after_seconds must be a number of seconds from 0, not {value!r}")
