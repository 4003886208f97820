"""Retrying: what becomes of an event after an attempt, when its retry is due, and how the retry is made.

1. Attempt: `RetryPolicy.decide`. A handler that returns has the event. If it raises, the event is retried while
   attempts of the handler's `attempts` are left; after the last one, or after Reject, it becomes a dead letter.
2. Backoff: `backoff_seconds`, unless the handler raised Retry with a time of its own.
3. Scheduling: a retry is a job of one event, with the number of its attempt, the masked text of its last error and
   the status "scheduled" (`_retry_job`). The step that settles the failed attempt (`settle.lua`) writes the job and
   enters it, by the time it is due, in RQ's registry of scheduled jobs of the handler's queue (`keys.rq_scheduled`).
4. Promotion: a supervisor's maintenance calls `JobTransitions.promote_due` (`workers/runtime/job_transitions.py`,
   `promote.lua`), which moves the jobs that are due to the end of the queue. So no worker waits for a retry. An
   operator promotes them earlier (`workers/admin/scheduled_retries.py`); they keep their attempt.

A job that fails as a whole by an error of this service is another matter: see `workers/failures/failed_jobs.py`.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct
from rq.job import JobStatus

from shared import events, keys, queues, sealed_field
from workers.declaration import Handler
from workers.deliver.error_text import masked_text
from workers.deliver.round import JobOutcome
from workers.failures import dead_letters
from workers.runtime.outcome import InternalError, Rejected, RetryRequested
from workers.runtime.settlement import Argument, NewFailure

_MAX_BACKOFF_SECONDS: Final = 3600.0


def backoff_seconds(attempt: int) -> float:
    """Return how long to wait after a failed attempt (1 is the first): 1, 4, 16, 64, … seconds, at most an hour.

    So eight attempts take about an hour and a half. A tenth is random, so that events that failed together are not
    retried together.
    """
    # 4^30 seconds exceed any maximum, and a very large power exceeds what a float holds.
    power = min(attempt - 1, 30)
    return min(4.0**power, _MAX_BACKOFF_SECONDS) * random.uniform(0.9, 1.1)  # noqa: S311 # not a secret


class ScheduledRetry(Struct, frozen=True):
    """The job of a retry: its id, when it is due (unix time in seconds), and the fields of its hash."""

    job_id: str
    due: float
    fields: Mapping[str, Argument]


class RetryPolicy:
    """What comes after an attempt at one handler.

    `encode` returns the form in which an event waits for its next attempt, or is kept as a dead letter.
    """

    def __init__(self, handler: Handler, *, encode: Callable[[events.Event], bytes] = events.encode) -> None:
        self._handler = handler
        self._encode = encode

    def decide(self, ended: JobOutcome, *, error: str) -> NewFailure | ScheduledRetry:
        """Return a failed event's dead letter or its retry, which carries `error`."""
        event, outcome = ended.event, ended.outcome
        name, attempt = self._handler.name, ended.attempt
        if event is None:
            return dead_letters.from_unreadable(name, ended.encoded, outcome, attempts=attempt)
        if isinstance(outcome, Rejected | InternalError) or attempt >= self._handler.attempts:
            return dead_letters.from_event(name, event, attempt, outcome, mask=masked_text, encode=self._encode)
        asked = outcome.after_seconds if isinstance(outcome, RetryRequested) else None
        seconds = backoff_seconds(attempt) if asked is None else asked
        return self._retry_job(self._encode(event), attempt + 1, seconds, error)

    def _retry_job(self, encoded: bytes, attempt: int, after_seconds: float, error: str) -> ScheduledRetry:
        name, job_id = self._handler.name, queues.new_job_id()
        fields = queues.delivery_job(
            name,
            [encoded],
            attempt=attempt,
            status=JobStatus.SCHEDULED,
            description=f"1 event for {name}, attempt {attempt}",
        )
        # For people: `callbacks retries list` shows it without asking the handler. Some 100 bytes.
        sealed = sealed_field.seal(keys.job(job_id), "error", error)
        fields |= {"error": sealed, "attempts": self._handler.attempts}
        return ScheduledRetry(job_id, time.time() + after_seconds, fields)
