"""Which events a target refuses although it is well: it accepts others meanwhile.

A target that is being deployed, or whose address is wrong, refuses everything; so a refusal alone says nothing of the
event. An event has to be refused again and again, and in between the target has to have accepted requests that began
after the refusal before: then it is the event. All of it takes longer than a deployment in which some of the target's
instances refuse what others accept.

This is known to one process and not kept. Where an event comes again to another one, it takes more attempts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_REFUSALS: Final = 4
MIN_SECONDS: Final = 90.0
# How soon an event comes again that was refused while others were accepted: so that it is known in about that time.
RETRY_SECONDS: Final = 30.0
# Some 300 bytes each. What is forgotten begins anew.
_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class _RefusedEvent:
    first: float
    last: float
    times: int


class RefusalTracker:
    """What one process knows of a target's refusals. Times are seconds of `clock`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accepted_at = -1.0
        self._known: dict[str, _RefusedEvent] = {}

    def begin(self) -> float:
        """Return when a call begins, for `accepted`."""
        return self._clock()

    def record_accepted(self, begun: float, event_id: str) -> None:
        """Note that an event was accepted, by a call that began then."""
        self._accepted_at = max(self._accepted_at, begun)
        self._known.pop(event_id, None)

    def record_refused(self, event_id: str) -> bool | None:
        """Note that an event was refused. Return whether the target will never take it; None: that cannot be known.

        It cannot, if nothing that began after the event's last refusal was accepted: the target may refuse everything.
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
