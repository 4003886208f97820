"""Tells an event that its target always refuses from a target that refuses everything.

A target that is being deployed, or whose URL is wrong, refuses everything, so one refusal says nothing about the event.
The event is the cause if it was refused several times while the target accepted other requests in between. That takes
longer than a deployment in which some instances of the target refuse what others accept.

Each process knows only its own calls, and nothing is stored. An event that is retried in another process needs more
attempts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_REFUSALS: Final = 4
MIN_SECONDS: Final = 90.0
# When an event that was refused while others were accepted is retried.
RETRY_SECONDS: Final = 30.0
# About 300 bytes each. A forgotten event starts from zero.
_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class _RefusedEvent:
    first: float
    last: float
    times: int


class RefusalTracker:
    """The refusals of one target in one process. Times are seconds of `clock`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accepted_at = -1.0
        self._known: dict[str, _RefusedEvent] = {}

    def begin(self) -> float:
        """Return the time at which a call begins, for `record_accepted`."""
        return self._clock()

    def record_accepted(self, begun: float, event_id: str) -> None:
        """Record that an event was accepted by a call that began at `begun`."""
        self._accepted_at = max(self._accepted_at, begun)
        self._known.pop(event_id, None)

    def record_refused(self, event_id: str) -> bool | None:
        """Record that an event was refused. Return whether the target will never accept it; None if unknown.

        It is unknown if no call that began after the event's last refusal was accepted: the target may then refuse
        everything.
        """
        now = self._clock()
        refused = self._known.pop(event_id, None)
        if refused is None:
            self._remember(event_id, _RefusedEvent(now, now, 1))
            return None
        is_known = self._accepted_at > refused.last
        refused.last = now
        refused.times += is_known
        is_final = is_known and refused.times >= MAX_REFUSALS and now - refused.first >= MIN_SECONDS
        if not is_final:
            self._remember(event_id, refused)
        return is_final if is_known else None

    def _remember(self, event_id: str, refused: _RefusedEvent) -> None:
        self._known[event_id] = refused
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
