"""Events are delivered to one handler: a run claims them, calls the handler, and settles what became of each.

While there is load, it does so in several rounds (see `workers.runtime.cooldown`).

One event's failure is its own (I5): it leaves its batch and waits alone for its next attempt (see `retries`). What
fails as a whole is split until one event is alone (see `failure_ladder`). Delivered events are recorded in the
completion journal at once and settled four times a second; failed ones are settled at once. So after a kill the job's
next run repeats only the events that were in flight.

If the handler asks for a pause, the run ends early and its events wait as they are (see `pause_probe`).
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Final

import redis

from shared.metrics import Metrics
from shared.structured_log import get_logger
from workers.declaration import Handler
from workers.deliver.activity import DeliveryActivity
from workers.deliver.call.caller import Caller
from workers.deliver.call.spans import CallSpans
from workers.deliver.call.timeout import Watchdog
from workers.deliver.delivery_log import LogLimit
from workers.deliver.failure_ladder import CallOutcomes, FailureLadder, ends_run
from workers.deliver.lease_check import LeaseCheck
from workers.deliver.prefetch import Prefetcher
from workers.deliver.round import Round
from workers.deliver.settle import SettleStep
from workers.deliver.settler import Settler
from workers.runtime import cooldown, headroom, pause
from workers.runtime import outcome as outcomes
from workers.runtime.claim import ClaimedJob
from workers.runtime.completion_journal import CompletionJournal
from workers.runtime.headroom import FailureLimit, Headroom
from workers.runtime.outcome import Done, Outcome, Paused
from workers.runtime.run_errors import HandlerPaused, RunPaused, Unfinished

log = get_logger("callbacks.deliver")

# A settlement costs a round trip and an fsync, about 1 ms. What is not settled stands in the worker's completion
# journal, which is lost only with the machine. So it may wait, but not for long.
_SETTLE_SECONDS: Final = 0.25


class Deliverer:
    """Delivers to one handler in this process. `is_stopping` is asked between events.

    `log_bytes` is how large the delivery log may become, 0 if this worker writes none.
    """

    def __init__(
        self,
        *,
        connection: redis.Redis,
        handler: Handler,
        caller: Caller,
        journal: CompletionJournal,
        is_stopping: Callable[[], bool],
        log_bytes: int,
        metrics: Metrics | None = None,
        spans: CallSpans | None = None,
        activity: DeliveryActivity | None = None,
    ) -> None:
        self._connection = connection
        self._handler = handler
        self._caller = caller
        self._journal = journal
        self._watchdog = Watchdog(handler.timeout_seconds)
        self._spans = spans
        self._activity = activity
        self._prefetcher = Prefetcher(connection, handler)
        self._is_stopping = is_stopping
        self._lease_check = LeaseCheck(connection, is_stopping=is_stopping)
        self._failure_limit = FailureLimit(Headroom(partial(headroom.read_memory, connection)))
        self._ladder = FailureLadder(
            handler,
            caller,
            claim_more=self._claim_more,
            is_stopping=is_stopping,
            failure_limit=self._failure_limit,
            spans=spans,
        )
        metrics = Metrics() if metrics is None else metrics
        log_limit = LogLimit(connection, log_bytes)
        log_limit.open()
        self._settler = Settler(
            settle_step=SettleStep(connection, is_stopping=is_stopping, log_limit=log_limit),
            handler=handler,
            journal=journal,
            metrics=metrics,
            spans=spans,
            activity=activity,
        )

    def run(self, *, job_id: str, worker: str, arguments: Sequence[Any]) -> None:
        """Deliver the running job's events and those of the jobs waiting behind it; `worker` is the worker's name.

        Raise Unfinished if the worker was asked to stop before all were delivered, RunPaused if the handler is paused,
        StaleRun if another worker owns the job by now, and redis.RedisError. Each leaves what is not settled to the
        job's next run.
        """
        for claimed_jobs in cooldown.rounds(
            partial(self._claim, job_id, worker, arguments),
            partial(self._claim_next, job_id, worker),
            is_stopping=self._is_stopping,
        ):
            self._deliver(Round(claimed_jobs, job_id=job_id, worker=worker))

    def _claim(self, job_id: str, worker: str, arguments: Sequence[Any]) -> list[ClaimedJob]:
        self._lease_check.begin()
        try:
            return self._prefetcher.claim(job_id, worker, arguments)
        except HandlerPaused as exc:
            raise self._handler_paused() from exc

    def _claim_next(self, job_id: str, worker: str) -> list[ClaimedJob]:
        self._lease_check.begin()
        return self._prefetcher.claim_next(job_id, worker)

    def _deliver(self, round_: Round) -> None:
        try:
            self._begin_events(round_, range(len(round_.events)))
            self._lease_check.check(round_.job_id, round_.worker)
            self._call(round_)
            self._finish(round_)
        finally:
            if self._spans is not None:
                self._spans.end()

    def _begin_events(self, round_: Round, positions: range) -> None:
        """Prepare for events that joined the round. This empties the completion journal."""
        self._journal.begin(round_.job_ids)
        if self._spans is not None:
            self._spans.add(round_.traced_events(positions))

    def _call(self, round_: Round) -> None:
        """Call the handler with the round's events, and settle what becomes of them."""
        # Once a worker has died of the job, each event is called alone and settled at once: that shows which one it is.
        settle_seconds = 0.0 if round_.deaths else _SETTLE_SECONDS
        calls = self._ladder.call_one_by_one(round_) if round_.deaths else self._ladder.call_all(round_)
        try:
            self._settle_calls(round_, calls, settle_seconds)
        except Exception as exc:
            if ends_run(exc):
                raise
            log.error("run_split", handler=self._handler.name, cause=outcomes.internal_error(exc).cause)
            self._settle_calls(round_, self._ladder.call_split(round_), settle_seconds)

    def _settle_calls(self, round_: Round, calls: CallOutcomes, settle_seconds: float) -> None:
        """Go through the calls, and settle their outcomes at most `settle_seconds` later."""
        # Closed at once where a settlement is refused: the calls in flight end with it.
        with closing(calls):
            self._watchdog.arm()
            try:
                for positions, outcome in calls:
                    # Other processes have to know of a pause, or of its end, before the next call.
                    if (
                        self._record(round_, positions, outcome)
                        or round_.probe.has_change
                        or round_.is_due(settle_seconds)
                    ):
                        self._watchdog.disarm()  # Redis may be unavailable for any time
                        self._settler.settle(round_)
                        self._lease_check.check(round_.job_id, round_.worker)
                        self._watchdog.arm()
            finally:
                self._watchdog.disarm()

    def _record(self, round_: Round, positions: Sequence[int], outcome: Outcome) -> bool:
        """Record the outcome of a call in the round and in the journal; return whether it has to be settled now."""
        call_seconds = self._caller.pop_call_seconds()
        if isinstance(outcome, Paused):  # events that were not tried stay what they were
            return False
        recorded = round_.record(positions, outcome, ended_at=time.time(), call_seconds=call_seconds)
        # The journal holds only successes. Failures are rare, and have more to say.
        if not isinstance(outcome, Done):
            return True
        if round_.makes_room:
            self._failure_limit.add_delivered(len(positions))
        return not all(self._journal.record(one.job.number, one.indices) for one in recorded)

    def _claim_more(self, round_: Round, free_slots: int) -> range:
        """Claim waiting events for a round whose handler could take `free_slots` more; return their positions."""
        self._watchdog.disarm()
        claimed_jobs = self._prefetcher.claim_more(round_, free_slots=free_slots)
        # Settle what is recorded before the journal is emptied, and before a slow call delays it.
        if claimed_jobs or round_.is_due(_SETTLE_SECONDS):
            self._settler.settle(round_)
        positions = round_.add(claimed_jobs)
        if claimed_jobs:
            self._begin_events(round_, positions)
        self._lease_check.check(round_.job_id, round_.worker)
        self._watchdog.arm()
        return positions

    def _finish(self, round_: Round) -> None:
        """Settle the rest. Raise RunPaused or Unfinished if the job has to run again."""
        round_.probe.end()
        self._settler.settle(round_)
        if round_.recorded:
            self._prefetcher.observe(round_)
        if not round_.is_settled or round_.needs_another_run:
            raise self._handler_paused() if round_.probe.is_paused else Unfinished()

    def _handler_paused(self) -> RunPaused:
        return RunPaused(self._seconds_paused)

    def _seconds_paused(self) -> float:
        seconds, name = pause.seconds_left(self._connection, self._handler.name), self._handler.name
        if seconds > 0 and self._failure_limit.has_recovered() and pause.end_memory_pause(self._connection, name):
            log.info("handler_resumed", handler=name, by="memory")
            return 0.0
        return seconds
