"""Decides when the queue of a failing target pauses, and for how long.

After FAILURES failures in a row the queue pauses. Then the worker tries one event, the probe. Each failed probe doubles
the pause; a success ends it. Three rules keep this fair:
- Calls that were in flight when the pause began wait for its end too. They neither lengthen it nor count as an attempt.
- An event that fails as the probe a second time counts an attempt, and another event becomes the probe: the failure may
  be caused by this one event.
- A refused probe counts an attempt at once, as the refusal may concern this event only. Every fourth refused probe
  lengthens the pause.

A target may refuse many events of one kind in a row and accept all others. Pausing for that is wrong. So each pause
that was caused by refusals only, and was ended by an accepted event, doubles the number of refusals in a row that the
next pause needs, until the target has refused nothing for a while. An event that is refused repeatedly counts once.
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
# After this many accepted events in a row, the number of refusals needed is reset.
_ACCEPTED: Final = 100


class CircuitBreaker:
    """The state of one target in one process."""

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
        """The number of failures in a row; an event that was refused several times counts once."""
        return self._errors + len(self._refused)

    def begin(self) -> int:
        """Return the number to pass to `record_failure` when the call that begins now fails."""
        return self._pauses

    def record_success(self) -> None:
        """Record that the target works: it accepted an event, or rejected it for good."""
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
        """Record a failed call. Return for how many seconds the queue pauses, or None if only this event waits.

        `retry_after_seconds` is the pause that the target asked for: then one failure is enough. `is_refusal` says that
        the target may refuse this event only.
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
        """Record a failed probe. Return whether another event becomes the next probe."""
        if is_refusal:
            self._refused_probes += 1
            return self._refused_probes % _REFUSED_PROBES != 0
        if event_id in self._failed_probes:
            self._failed_probes.discard(event_id)
            return True
        self._failed_probes.add(event_id)
        return False
