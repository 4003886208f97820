"""What became of a run's events is written down: all at once, and if that fails, in halves, until one event is alone.

That one becomes a dead letter with the traceback, whatever had become of it. The others are settled as they are.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from shared import events
from shared.metrics import Metrics
from workers.declaration import Handler
from workers.deliver.call.spans import CallSpans
from workers.deliver.pause_probe import ProbeState
from workers.deliver.retries import RetryPolicy
from workers.deliver.run import EventOutcome, Run
from workers.runtime import outcome as outcomes
from workers.runtime import redis_retry
from workers.runtime.completion_journal import CompletionJournal
from workers.runtime.outcome import InternalError
from workers.runtime.settlement import NO_CHANGE, PauseChange, SettleResult
from workers.runtime.steps import StaleRun, Steps

T = TypeVar("T")

log = logging.getLogger("callbacks.deliver")

# So many events of which nothing can be written down, each alone: it is not the events' doing, then.
MAX_STUCK: Final = 3


class SettlementFailed(Exception):
    """What became of events could not be written down, and that is not one event's doing: the cause says why."""


def failed_event(error: Exception, *, handler: str) -> InternalError:
    """Return the outcome of an event with which this service itself failed, and log it."""
    outcome = outcomes.internal_error(error)
    log.error("action=event_failed handler=%s cause=%s", handler, outcome.cause)
    return outcome


def halves(items: list[T]) -> list[list[T]]:
    """Return the first and the second half of a list; of a list of one, that."""
    middle = len(items) // 2
    return [half for half in (items[:middle], items[middle:]) if half]


class Settler:
    """Settles the runs of one handler in this process."""

    def __init__(
        self, *, steps: Steps, handler: Handler, journal: CompletionJournal, metrics: Metrics, spans: CallSpans | None
    ) -> None:
        self._steps = steps
        self._handler = handler
        self._journal = journal
        self._metrics = metrics
        self._spans = spans

    def settle(self, run: Run, probe: ProbeState) -> None:
        """Write down what became of events since the last time; all of it at once, if nothing is wrong with one.

        Raises StaleRun, redis.RedisError where Redis is unavailable, and SettlementFailed.
        """
        left = deque([run.pop_unsettled()])
        if not left[0] and not probe.has_change:
            return
        change = probe.pop_change()
        stuck: list[SettlementFailed] = []
        while left:
            ended = left.popleft()
            try:
                policy, settled = self._write(run, ended, change)
            except Exception as exc:
                if isinstance(exc, StaleRun) or redis_retry.is_unavailable(exc):
                    raise
                try:
                    left.extendleft(reversed(self._split(ended, exc)))
                except SettlementFailed as unsettled:
                    stuck.append(unsettled)
                    if len(stuck) == MAX_STUCK:
                        raise
                continue
            # What is settled is never settled again, whatever goes wrong from here on.
            run.mark_settled(ended)
            by, change = change.by, NO_CHANGE
            probe.observe_settlement(settled)
            self._log(policy)
            if settled.change == "paused":
                log.warning(
                    "action=handler_paused handler=%s seconds=%.0f by=%s", self._handler.name, settled.seconds, by
                )
            elif settled.change == "resumed":
                log.info("action=handler_resumed handler=%s seconds=%.0f", self._handler.name, settled.seconds)
        if stuck:
            raise stuck[0]
        run.settled_at = time.monotonic()
        self._journal.clear()

    def _split(self, ended: list[EventOutcome], error: Exception) -> list[list[EventOutcome]]:
        """Return what to write down instead, where that failed: each half, or that one event as a dead letter."""
        if len(ended) > 1:
            return halves(ended)
        if not ended or isinstance(ended[0].outcome, InternalError):
            # Not the event's doing, then.
            raise SettlementFailed(SettlementFailed.__doc__) from error
        return [[msgspec.structs.replace(ended[0], outcome=failed_event(error, handler=self._handler.name))]]

    def _write(self, run: Run, ended: Sequence[EventOutcome], change: PauseChange) -> tuple[RetryPolicy, SettleResult]:
        policy = RetryPolicy(
            self._handler, encode=events.encode if self._spans is None else self._spans.encode_with_trace
        )
        for one in ended:
            policy.decide(one)
        settled = self._steps.settle(
            run_id=run.job_id,
            handler=self._handler.name,
            settlements=run.settlements(ended),
            counts=policy.counts,
            dead=policy.dead,
            later=policy.later,
            change=change,
        )
        return policy, settled

    def _log(self, policy: RetryPolicy) -> None:
        for name, number in (("retried", len(policy.later)), ("dead", len(policy.dead))):
            self._metrics.add((name, self._handler.name), number)
        for (action, cause), number in policy.actions.items():
            log.warning("action=%s handler=%s events=%d cause=%s", action, self._handler.name, number, cause)
