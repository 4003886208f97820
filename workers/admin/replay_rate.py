"""The rate limit of a replay: how many dead letters a second go back, so that a target that is just back can keep up.

A replay with a limit goes in steps of at most a second, and waits between them. While its handler is paused it waits
too: otherwise all that is due meanwhile would reach the target at once.
"""

import re
import time
from collections.abc import Callable
from typing import Final

_RATE: Final = re.compile(r"([0-9]{1,7})(?:/([sm]))?")
_UNIT_SECONDS: Final = {"s": 1, "m": 60}
# How soon a stop is noticed.
_POLL_SECONDS: Final = 0.5


def parse_rate(text: str) -> float:
    """Return how many a second "50/s", "50" or "300/m" is. Raise ValueError."""
    found = _RATE.fullmatch(text.strip().lower().replace(" ", ""))
    if found is None or not int(found[1]):
        raise ValueError(f"{text!r} is not a rate: use 50/s or 300/m")
    return int(found[1]) / _UNIT_SECONDS[found[2] or "s"]


def format_limit(per_second: float) -> str:
    """Return a rate as `parse_rate` reads it."""
    return f"{per_second:.0f}/s" if per_second >= 1 and per_second.is_integer() else f"{per_second * 60:.0f}/m"


class Pace:
    """Keeps an action to `per_second`; None: no limit."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._step_started_at = 0.0

    def begin_step(self, most: int) -> int:
        """Return how many may be done in the step that begins now, of `most` that fit."""
        self._step_started_at = time.monotonic()
        return most if self._per_second is None else max(1, min(most, int(self._per_second)))

    def wait(self, done: int, *, must_wait: Callable[[], bool], may_continue: Callable[[], bool]) -> bool:
        """Wait after a step of `done` until the next is due, and while `must_wait`; return whether it `may_continue`.

        A step that took longer than its time is not made up for: the target had no rest either.
        """
        if self._per_second is None:
            return True
        until = self._step_started_at + done / self._per_second
        while may_continue():
            left = until - time.monotonic()
            if left <= 0 and not must_wait():
                return True
            time.sleep(min(left, _POLL_SECONDS) if left > 0 else _POLL_SECONDS)
        return False
