"""What becomes of the events of one handler, for `callbacks dev`; see `workers.activity`."""

import time

from shared.events import Event
from workers.activity import ActivityPublisher, CallResult, EventLabel, PauseChanged
from workers.declaration import Handler
from workers.deliver.retries import ScheduledRetry
from workers.deliver.round import JobOutcome
from workers.runtime.outcome import InternalError, Rejected
from workers.runtime.settlement import NewFailure


class DeliveryActivity:
    """Collects what a settlement decides, and publishes it once Redis has the settlement."""

    def __init__(self, publisher: ActivityPublisher, handler: Handler) -> None:
        self._publisher = publisher
        self._handler = handler
        self._decided: list[tuple[JobOutcome, NewFailure | ScheduledRetry | None, str]] = []

    def begin(self) -> None:
        """Begin a settlement. What was decided before, and not published, was not settled."""
        self._decided.clear()

    def add(self, ended: JobOutcome, decided: NewFailure | ScheduledRetry | None, error: str) -> None:
        """Add what becomes of one event: a dead letter, a retry, or None if it is delivered.

        `error` is the masked text of its error.
        """
        self._decided.append((ended, decided, error))

    def publish(self) -> None:
        """Publish the settlement."""
        decided, self._decided = self._decided, []
        self._publisher.publish(
            self._result(ended, became, error) for ended, became, error in decided if ended.event is not None
        )

    def publish_pause(self, *, is_paused: bool, seconds: float, reason: str = "") -> None:
        """Publish that the handler was paused or resumed."""
        self._publisher.publish([PauseChanged(self._handler.name, is_paused, seconds, reason)])

    def _result(self, ended: JobOutcome, became: NewFailure | ScheduledRetry | None, error: str) -> CallResult:
        event: Event = ended.event  # type: ignore[assignment] # those without one are left out
        is_retry = isinstance(became, ScheduledRetry)
        return CallResult(
            handler=self._handler.name,
            event=EventLabel.from_event(event),
            outcome="delivered" if became is None else "retried" if is_retry else "dead",
            attempt=ended.attempt,
            error=error,
            after_seconds=became.due - time.time() if isinstance(became, ScheduledRetry) else None,
            call_ms=None if ended.call_seconds is None else ended.call_seconds * 1000,
            is_rejected=isinstance(ended.outcome, Rejected | InternalError),
        )
