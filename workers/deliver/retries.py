"""What becomes of an event after an attempt: delivered, tried again later, or dead; and what to write down for it."""

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from rq.job import JobStatus

from shared import events, keys, queues
from workers.declaration import Handler
from workers.deliver.run import EventOutcome
from workers.failures import dead_letters
from workers.runtime.outcome import Done, Failed, InternalError, Outcome, Rejected, RetryRequested
from workers.runtime.settlement import NewFailure, ScheduledRetry

_MAX_BACKOFF_SECONDS: Final = 3600.0


def backoff_seconds(attempt: int) -> float:
    """Give the pause after a failed attempt (1 is the first): 1, 4, 16, 64, … seconds, an hour at most.

    Eight attempts so cover about an hour and a half. A tenth is left to chance, so that events that failed together
    do not come back together.
    """
    # Any larger power of 4 is past the longest wait, and a very large one past what a float holds.
    power = min(attempt - 1, 6)
    return min(4.0**power, _MAX_BACKOFF_SECONDS) * random.uniform(0.9, 1.1)  # noqa: S311 # no secret


class RetryPolicy:
    """What becomes of the events of one settlement. `actions` counts log lines, by action and cause.

    `encode` gives the form in which an event waits for its next attempt.
    """

    def __init__(self, handler: Handler, *, encode: Callable[[events.Event], bytes] = events.encode) -> None:
        self._handler = handler
        self._encode = encode
        self.counts: Counter[str] = Counter()
        self.actions: Counter[tuple[str, str]] = Counter()
        self.dead: list[NewFailure] = []
        self.later: list[ScheduledRetry] = []

    def decide(self, ended: EventOutcome) -> None:
        """Decide on an event: delivered, dead, or tried again."""
        name, event, attempt, outcome = self._handler.name, ended.event, ended.attempt, ended.outcome
        if event is None:
            self._add_dead_letter(dead_letters.from_array(name, ended.decoded, outcome, attempts=attempt), outcome)
        elif isinstance(outcome, Done):
            self.counts[keys.handler_counter(name, event.kind, "delivered")] += 1
        elif isinstance(outcome, Rejected | InternalError) or attempt >= self._handler.attempts:
            self._add_dead_letter(dead_letters.from_event(name, event, attempt, outcome), outcome)
        else:
            wait = outcome.after_seconds if isinstance(outcome, RetryRequested) else None
            self.actions["event_retried", _cause(outcome)] += 1
            self.later.append(
                _retry_job(name, self._encode(event), attempt + 1, backoff_seconds(attempt) if wait is None else wait)
            )

    def _add_dead_letter(self, letter: NewFailure, outcome: Outcome) -> None:
        # Counted as dead by the step that keeps it, or as dropped where one of its name is there.
        self.actions["event_dead", _cause(outcome)] += 1
        self.dead.append(letter)


def _cause(outcome: Outcome) -> str:
    return outcome.cause if isinstance(outcome, Failed) else type(outcome).__name__.lower()


def _retry_job(handler: str, encoded: bytes, attempt: int, after_seconds: float) -> ScheduledRetry:
    job_id = queues.new_job_id()
    fields = queues.delivery_job(
        handler,
        [encoded],
        attempt=attempt,
        status=JobStatus.SCHEDULED,
        description=f"1 event for {handler}, attempt {attempt}",
    )
    return ScheduledRetry(job_id, time.time() + after_seconds, fields)
