"""The outcomes of a round's events are settled: counted, made dead letters or retries; the handler's pause is changed.

`Settler` settles all outcomes at once; if that fails, in halves, until one event is alone. That event becomes a dead
letter with the traceback, whatever its outcome was; the others are settled as they are.
"""

import itertools
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from shared import events, keys
from shared.metrics import DEAD, DELIVERY, DELIVERY_BUCKETS, RETRIED, Metrics
from shared.structured_log import get_logger
from workers.declaration import Handler
from workers.deliver.activity import DeliveryActivity
from workers.deliver.call.spans import CallSpans
from workers.deliver.delivery_log import Attempts
from workers.deliver.error_text import outcome_text
from workers.deliver.pause_probe import NO_CHANGE, PauseChange
from workers.deliver.retries import RetryPolicy, ScheduledRetry
from workers.deliver.round import JobOutcome, Round
from workers.deliver.settle import SettleResult, SettleStep
from workers.runtime import outcome as outcomes
from workers.runtime import redis_retry
from workers.runtime.completion_journal import CompletionJournal
from workers.runtime.outcome import Done, Failed, InternalError, Outcome
from workers.runtime.run_errors import SettlementFailed, StaleRun
from workers.runtime.settlement import NewFailure, Settlement

T = TypeVar("T")

log = get_logger("callbacks.deliver")

# If this many events, each alone, cannot be settled, the events are not the cause.
MAX_STUCK: Final = 3
# How many answers of one settlement are kept in detail.
_MAX_ANSWERS: Final = 4
_received_at: Final = attrgetter("received_at")


def failed_event(error: Exception, *, handler: str) -> InternalError:
    """Return the outcome of an event with which this service itself failed, and log it."""
    outcome = outcomes.internal_error(error)
    log.error("event_failed", handler=handler, cause=outcome.cause)
    return outcome


def halves(items: list[T]) -> list[list[T]]:
    """Return the first and the second half of a list; of a list of one, that list alone."""
    middle = len(items) // 2
    return [half for half in (items[:middle], items[middle:]) if half]


class _Decisions(Struct):
    """What one settlement writes.

    `delivered`: how many events were delivered, by type. `received`: the same by when their callback was received,
    for neighbours together. `failed`: how many events failed, by the action and the cause of their log line; `errors`:
    the text of its error.
    """

    delivered: Counter[type[events.Event]]
    received: list[tuple[datetime, int]]
    failed: Counter[tuple[str, str]]
    errors: dict[tuple[str, str], str]
    dead: list[NewFailure]
    later: list[ScheduledRetry]
    attempts: Attempts

    def add_delivered(self, delivered: Sequence[events.Event]) -> None:
        """Count events that were delivered."""
        self.delivered.update(map(type, delivered))
        # The events of one callback are neighbours. To hash a time takes longer than all the rest.
        for received_at, those in itertools.groupby(map(_received_at, delivered)):
            self.received.append((received_at, len([*those])))

    def add_failed(self, action: str, outcome: Outcome, error: str) -> None:
        """Count an event that failed, for its log line."""
        line = (action, outcome.cause if isinstance(outcome, Failed) else type(outcome).__name__.lower())
        self.failed[line] += 1
        # Failures are settled at once, so that several have one text: that of the call that they shared.
        self.errors.setdefault(line, error)


class Settler:
    """Settles the rounds of one handler in this process."""

    def __init__(
        self,
        *,
        settle_step: SettleStep,
        handler: Handler,
        journal: CompletionJournal,
        metrics: Metrics,
        spans: CallSpans | None,
        activity: DeliveryActivity | None = None,
    ) -> None:
        self._settle_step = settle_step
        self._handler = handler
        self._journal = journal
        self._metrics = metrics
        self._delivery_seconds = metrics.histogram((DELIVERY, handler.name), DELIVERY_BUCKETS)
        self._activity = activity
        self._policy = RetryPolicy(handler, encode=events.encode if spans is None else spans.encode_with_trace)

    def settle(self, round_: Round) -> None:
        """Settle the outcomes since the last call; all at once, unless one of them cannot be settled.

        Raise StaleRun, redis.RedisError if Redis is unavailable, and SettlementFailed.
        """
        left = deque([round_.pop_unsettled()])
        if not left[0] and not round_.probe.has_change:
            return
        change = round_.probe.pop_change()
        if change.reason:
            change = change.masked(round_.events)
        stuck: list[SettlementFailed] = []
        while left:
            ended = left.popleft()
            try:
                settlements, decisions = round_.settlements(ended), self._decide(round_, ended)
                settled = self._write(round_.job_id, settlements, decisions, change)
            except Exception as exc:
                if isinstance(exc, StaleRun) or redis_retry.is_unavailable(exc):
                    raise
                try:
                    left.extendleft(reversed(self._split(ended, exc)))
                except SettlementFailed as failed:
                    stuck.append(failed)
                    if len(stuck) == MAX_STUCK:
                        raise
                continue
            # What is settled must never be settled again, whatever fails from here on.
            round_.mark_settled(settlements)
            asked, change = change, NO_CHANGE
            round_.probe.observe_settlement(is_paused=settled.is_paused)
            self._report(decisions)
            self._log_pause(settled, asked)
        if stuck:
            raise stuck[0]
        round_.settled_at = time.monotonic()
        self._journal.clear()

    def _split(self, ended: list[JobOutcome], error: Exception) -> list[list[JobOutcome]]:
        """Return what to settle instead, after `error`: each half, or the one event as a dead letter."""
        each = [alone for one in ended for alone in one.split()]
        if len(each) > 1:
            return halves(each)
        if not each or isinstance(each[0].outcome, InternalError):
            # The event is not the cause, then.
            raise SettlementFailed(SettlementFailed.__doc__) from error
        return [[msgspec.structs.replace(each[0], outcome=failed_event(error, handler=self._handler.name))]]

    def _write(
        self, run_id: str, settlements: Iterable[Settlement], decisions: _Decisions, change: PauseChange
    ) -> SettleResult:
        return self._settle_step.settle(
            run_id=run_id,
            handler=self._handler.name,
            settlements=settlements,
            counts={
                keys.handler_counter(self._handler.name, event_type.kind, "delivered"): number
                for event_type, number in decisions.delivered.items()
            },
            dead=decisions.dead,
            later=decisions.later,
            change=change,
            attempts=decisions.attempts,
        )

    def _decide(self, round_: Round, ended: Sequence[JobOutcome]) -> _Decisions:
        """Return what becomes of the events, by the handler's retry policy."""
        attempts = Attempts(self._handler.name, attempts=self._handler.attempts)
        decisions = _Decisions(Counter(), [], Counter(), {}, [], [], attempts)
        texts: dict[Outcome, str] = {}
        activity = self._activity
        if activity is not None:
            activity.begin()
        delivered: defaultdict[str, list[JobOutcome]] = defaultdict(list)
        for one in ended:
            if isinstance(one.outcome, Done):
                answer = one.outcome.answer and self._answer_text(round_, one, one.outcome, texts, shown=len(delivered))
                delivered[answer].append(one)
                if activity is not None:
                    for alone in one.split():
                        activity.add(alone, None, "")
            else:
                for failed in one.split():
                    self._decide_failed(round_, failed, texts, decisions)
        for answer, those in delivered.items():
            attempts.add_delivered(those, answer)
            decisions.add_delivered([event for one in those for event in one.events])
        return decisions

    def _decide_failed(
        self, round_: Round, ended: JobOutcome, texts: dict[Outcome, str], decisions: _Decisions
    ) -> None:
        """Add what becomes of one event that failed."""
        error = self._outcome_text(round_, ended, texts)
        decided = self._policy.decide(ended, error=error)
        decisions.attempts.add_failed(ended, decided, error)
        if self._activity is not None:
            self._activity.add(ended, decided, error)
        if isinstance(decided, ScheduledRetry):
            decisions.add_failed("event_retried", ended.outcome, error)
            decisions.later.append(decided)
        else:
            # The step counts it as dead, or as dropped if it replaces a dead letter of the same event.
            decisions.add_failed("event_dead", ended.outcome, error)
            decisions.dead.append(decided)

    def _outcome_text(self, round_: Round, ended: JobOutcome, texts: dict[Outcome, str]) -> str:
        """Return the masked text of an event's error; `texts` are those of other outcomes of the same settlement.

        It may quote the events that the call was made with: in a batch, all of the round. The events of a batch share
        the outcome of their call, so its text is made once.
        """
        if not self._handler.batch:
            return outcome_text(ended.outcome, [] if ended.event is None else [ended.event])
        if ended.outcome not in texts:
            texts[ended.outcome] = outcome_text(ended.outcome, round_.events)
        return texts[ended.outcome]

    def _answer_text(
        self, round_: Round, ended: JobOutcome, done: Done, texts: dict[Outcome, str], *, shown: int
    ) -> str:
        """Return the masked text of a target's answer, with its detail unless the settlement has `shown` too many.

        Equal answers are one entry of the delivery log; details that differ would fill it, and the file.
        """
        if done.detail and shown >= _MAX_ANSWERS:
            ended = msgspec.structs.replace(ended, outcome=Done(done.answer))
        return self._outcome_text(round_, ended, texts)

    def _report(self, decisions: _Decisions) -> None:
        for name, number in ((RETRIED, len(decisions.later)), (DEAD, len(decisions.dead))):
            self._metrics.add((name, self._handler.name), number)
        now = datetime.now(UTC)
        for received_at, number in decisions.received:
            self._delivery_seconds.observe(max(0.0, (now - received_at).total_seconds()), number)
        if self._activity is not None:  # it says the same, and more
            self._activity.publish()
            return
        for (action, cause), number in decisions.failed.items():
            text = decisions.errors[action, cause] or None
            log.warning(action, handler=self._handler.name, events=number, cause=cause, error=text)

    def _log_pause(self, settled: SettleResult, asked: PauseChange) -> None:
        if not settled.change:
            return
        name, seconds, text = self._handler.name, settled.seconds, asked.reason
        if self._activity is not None:
            self._activity.publish_pause(is_paused=settled.change == "paused", seconds=seconds, reason=text)
        elif settled.change == "paused":
            log.warning("handler_paused", handler=name, seconds=round(seconds), by=asked.by, error=text or None)
        else:
            log.info("handler_resumed", handler=name, seconds=round(seconds))
