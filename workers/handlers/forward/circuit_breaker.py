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
MIN_PAUSE_SECONDS: Final = 5.0
MAX_PAUSE_SECONDS: Final = 300.0
MAX_REFUSALS: Final = 320
_MIN_SECONDS: Final = 1.0
_REFUSED_PROBES: Final = 4
# With so many accepted one after the other the target refuses nothing any more.
_ACCEPTED: Final = 100


class CircuitBreaker:
    """What is known of one target in one process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._errors = 0
        self._refused: set[str] = set()
        self._refusals_needed = FAILURES
        self._accepted = 0
        self._pauses = 0
        self._is_open = False
        self._is_by_refusals = False
        self._backoff_seconds = 0.0
        self._until = 0.0
        self._failed_probes: set[str] = set()
        self._refused_probes = 0

    @property
    def failures(self) -> int:
        """How many there are in a row."""
        return self._errors + len(self._refused)

    def begin(self) -> int:
        """Note that a call begins; return what its end has to bring."""
        return self._pauses

    def record_success(self) -> None:
        """Note that the target answered as it should, be it that it refused an event."""
        if self._is_open and self._is_by_refusals:
            self._refusals_needed = min(2 * self._refusals_needed, MAX_REFUSALS)
        self._accepted += 1
        if self._accepted >= _ACCEPTED:
            self._refusals_needed = FAILURES
        self._errors = self._refused_probes = 0
        self._refused.clear()
        self._is_open = False
        self._backoff_seconds = 0.0
        self._failed_probes.clear()

    def record_failure(
        self, begun: int, event_id: str, *, retry_after_seconds: float | None = None, is_refusal: bool = False
    ) -> float | None:
        """Note that a call failed, and return the seconds that the queue is to pause; None: the event alone waits.

        `asked_seconds` is how long the target itself asked for: then one failure is enough. `is_refusal`: it may be
        the event that the target does not take.
        """
        if is_refusal:
            self._refused.add(event_id)
            self._accepted = 0
        else:
            self._errors += 1
        if self._is_open:
            if begun < self._pauses:
                return max(self._until - self._clock(), retry_after_seconds or 0.0, _MIN_SECONDS)
            if self._probes_another_event(event_id, is_refusal=is_refusal):
                return None
        elif retry_after_seconds is None and self.failures < self._failures_needed:
            return None
        else:
            self._is_by_refusals = retry_after_seconds is None and not self._errors
        self._is_open = True
        self._pauses += 1
        if retry_after_seconds is None:
            self._backoff_seconds = min(self._backoff_seconds * 2 or MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
        seconds = self._backoff_seconds if retry_after_seconds is None else max(retry_after_seconds, _MIN_SECONDS)
        self._until = self._clock() + seconds
        return seconds

    @property
    def _failures_needed(self) -> int:
        return FAILURES if self._errors else self._refusals_needed

    def _probes_another_event(self, event_id: str, *, is_refusal: bool) -> bool:
        """Note that a probe failed; return whether another event is to be the next one."""
        if is_refusal:
            self._refused_probes += 1
            return self._refused_probes % _REFUSED_PROBES != 0
        if event_id in self._failed_probes:
            self._failed_probes.discard(event_id)
            return True
        self._failed_probes.add(event_id)
        return False
