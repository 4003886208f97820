"""When a target is in trouble, rather than with one event: how long its queue is to wait.

After FAILURES failures in a row the queue pauses, and the worker then tries one event, the probe. While probes fail,
the pause doubles; a success ends it all. Three things keep it fair. Calls that were under way when the pause began say
nothing new: they end in it too, and neither lengthen it nor spend an attempt. An event that fails as the probe a second
time spends an attempt: it alone may be what the target stumbles over, and then another must get its turn. A probe that
is refused spends one at once, as a refusal may well be the event's own; every fourth lengthens the pause.

A target may refuse many events of one kind, that happen to come in a row, and accept the others. A pause for that is
needless, and costs more than the attempts that a longer row would: so each pause that refusals alone began, and that an
accepted event ended, doubles the row that is needed, until the target has refused nothing for a while. And one event
that is refused again and again counts once: where nothing else waits, nothing has to.
"""

import time
from collections.abc import Callable
from typing import Final

FAILURES: Final = 5
FIRST_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 300.0
MOST_REFUSALS: Final = 320
_LEAST_SECONDS: Final = 1.0
_REFUSED_PROBES: Final = 4
# With so many accepted one after the other the target refuses nothing any more.
_ACCEPTED: Final = 100


class Breaker:
    """What is known of one target in one process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._troubles = 0
        self._refused: set[str] = set()
        self._refusals_needed = FAILURES
        self._accepted = 0
        self._pauses = 0
        self._is_open = False
        self._is_by_refusals = False
        self._own_seconds = 0.0
        self._until = 0.0
        self._probed: set[str] = set()
        self._refused_probes = 0

    @property
    def failures(self) -> int:
        """How many there are in a row."""
        return self._troubles + len(self._refused)

    def begin(self) -> int:
        """Note that a call begins; return what its end has to bring."""
        return self._pauses

    def succeeded(self) -> None:
        """Note that the target answered as it should, be it that it refused an event."""
        if self._is_open and self._is_by_refusals:
            self._refusals_needed = min(2 * self._refusals_needed, MOST_REFUSALS)
        self._accepted += 1
        if self._accepted >= _ACCEPTED:
            self._refusals_needed = FAILURES
        self._troubles = self._refused_probes = 0
        self._refused.clear()
        self._is_open = False
        self._own_seconds = 0.0
        self._probed.clear()

    def failed(
        self, begun: int, event_id: str, *, asked_seconds: float | None = None, is_refusal: bool = False
    ) -> float | None:
        """Note that a call failed, and return the seconds that the queue is to pause; None: the event alone waits.

        `asked_seconds` is how long the target itself asked for: then one failure is enough. `is_refusal`: it may be
        the event that the target does not take.
        """
        if is_refusal:
            self._refused.add(event_id)
            self._accepted = 0
        else:
            self._troubles += 1
        if self._is_open:
            if begun < self._pauses:
                return max(self._until - self._clock(), asked_seconds or 0.0, _LEAST_SECONDS)
            if self._leaves_it_to_another(event_id, is_refusal=is_refusal):
                return None
        elif asked_seconds is None and self.failures < self._needed:
            return None
        else:
            self._is_by_refusals = asked_seconds is None and not self._troubles
        self._is_open = True
        self._pauses += 1
        if asked_seconds is None:
            self._own_seconds = min(self._own_seconds * 2 or FIRST_SECONDS, LONGEST_SECONDS)
        seconds = self._own_seconds if asked_seconds is None else max(asked_seconds, _LEAST_SECONDS)
        self._until = self._clock() + seconds
        return seconds

    @property
    def _needed(self) -> int:
        return FAILURES if self._troubles else self._refusals_needed

    def _leaves_it_to_another(self, event_id: str, *, is_refusal: bool) -> bool:
        """Note that a probe failed; return whether another event is to be the next one."""
        if is_refusal:
            self._refused_probes += 1
            return self._refused_probes % _REFUSED_PROBES != 0
        if event_id in self._probed:
            self._probed.discard(event_id)
            return True
        self._probed.add(event_id)
        return False
