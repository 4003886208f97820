"""When a target is away, rather than in trouble with one event: how long its queue is to wait.

After FAILURES failures in a row the queue pauses, and the worker then tries one event, the probe. While probes fail,
the pause doubles; a success ends it all. Two things keep it fair. Calls that were under way when the pause began say
nothing new: they end in it too, and neither lengthen it nor burn an attempt. And an event that fails as the probe a
second time burns an attempt: it alone may be what the target stumbles over, and then another must get its turn.
"""

import time
from collections.abc import Callable
from typing import Final

FAILURES: Final = 5
FIRST_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 300.0
_LEAST_SECONDS: Final = 1.0


class Breaker:
    """What is known of one target in one process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._pauses = 0
        self._is_open = False
        self._own_seconds = 0.0
        self._until = 0.0
        self._probed: set[str] = set()

    def begin(self) -> int:
        """Note that a call begins; give what its end has to bring."""
        return self._pauses

    def succeeded(self) -> None:
        """Note that the target answered as it should, be it that it refused an event."""
        self._failures = 0
        self._is_open = False
        self._own_seconds = 0.0
        self._probed.clear()

    def failed(self, begun: int, event_id: str, *, asked_seconds: float | None = None) -> float | None:
        """Note that a call failed, and give the seconds that the queue is to pause; None: the event alone waits.

        `asked_seconds` is how long the target itself asked for: then one failure is enough.
        """
        self._failures += 1
        if self._is_open:
            if begun < self._pauses:
                return max(self._until - self._clock(), asked_seconds or 0.0, _LEAST_SECONDS)
            if event_id in self._probed:
                self._probed.discard(event_id)
                return None
            self._probed.add(event_id)
        elif asked_seconds is None and self._failures < FAILURES:
            return None
        self._is_open = True
        self._pauses += 1
        if asked_seconds is None:
            self._own_seconds = min(self._own_seconds * 2 or FIRST_SECONDS, LONGEST_SECONDS)
        seconds = self._own_seconds if asked_seconds is None else max(asked_seconds, _LEAST_SECONDS)
        self._until = self._clock() + seconds
        return seconds
