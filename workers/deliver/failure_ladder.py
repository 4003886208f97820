"""In which order and in which groups a round's events are passed to the handler: the failure ladder of calls.

A batch that fails is called again one event at a time; a round that fails by an error of this service is split into
halves until the event with which it fails is alone; a job that killed a worker is called one event at a time from the
start. Each way ends when the worker is to stop or the handler is paused.
"""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final, TypeAlias

from shared import events, queues
from workers.declaration import Handler
from workers.deliver.call.caller import Caller
from workers.deliver.call.spans import CallSpans
from workers.deliver.round import Round
from workers.deliver.settler import MAX_STUCK, failed_event, halves
from workers.runtime import redis_retry
from workers.runtime.headroom import FailureLimit
from workers.runtime.outcome import Done, Failed, Outcome, Rejected, Split
from workers.runtime.run_errors import SettlementFailed, StaleRun, Unfinished
from workers.runtime.settlement import MAX_DEATHS

# The positions of a call's events in the round, in ascending order, and the outcome that they share.
CallOutcome: TypeAlias = tuple[Sequence[int], Outcome]
CallOutcomes: TypeAlias = Generator[CallOutcome, None, None]

# A handler that fails with this many events in a row, after it failed with their batch, would fail with all of them:
# at a time-out each, thousands of events would occupy its queue for a day.
_MAX_CONSECUTIVE_FAILURES: Final = 10


def ends_run(error: Exception) -> bool:
    """Return whether an error ends the run because no event is its cause."""
    return isinstance(error, StaleRun | Unfinished | SettlementFailed) or redis_retry.is_unavailable(error)


class FailureLadder:
    """Calls one handler with the events of its rounds.

    `claim_more` adds waiting events to a round whose handler has a number of free slots, and returns their positions.
    """

    def __init__(
        self,
        handler: Handler,
        caller: Caller,
        *,
        claim_more: Callable[[Round, int], Sequence[int]],
        is_stopping: Callable[[], bool],
        failure_limit: FailureLimit,
        spans: CallSpans | None,
    ) -> None:
        self._handler = handler
        self._caller = caller
        self._claim_more = claim_more
        self._is_stopping = is_stopping
        self._failure_limit = failure_limit
        self._spans = spans

    def call_all(self, round_: Round) -> CallOutcomes:
        """Call a batch handler with all events on their first attempt; call any other handler with one event at a time.

        Events that failed before are called alone, as one bad event would otherwise fail a whole batch at each attempt.
        So are the events of a batch that failed. If the handler asked for a retry, or fails with one event after the
        other, the events are not the cause: the rest of the batch fails with it, and each is retried alone later.

        After a pause one event is tried first, alone.
        """
        tried = 0
        if round_.probe.is_probe:
            for _, outcome in self._call(round_, round_.events[:1], singly=True):
                yield (0,), outcome
            tried = 1
        fresh, later = round_.positions_by_attempt(tried)
        if self._caller.can_prefetch:
            yield from self._call_concurrently(round_, [*fresh, *later])
        elif self._handler.batch:
            yield from self._call_batch(round_, fresh, later)
        else:
            for index, outcome in self._call(round_, [round_.events[p] for p in fresh]):
                yield (fresh[index],), outcome
            yield from self._call_singly(round_, later, None)

    def _call_batch(self, round_: Round, fresh: Sequence[int], later: Sequence[int]) -> CallOutcomes:
        """Call the handler with the events at `fresh` together, then with those at `later`, each alone."""
        single, cause = later, None
        called = [round_.events[position] for position in fresh]
        if called and not self._must_stop(round_):
            outcome = self._caller.call_batch(called)
            if self._spans is not None:
                self._spans.end_batch(called, outcome)
            if isinstance(outcome, Split):
                single, cause = sorted([*fresh, *later]), outcome.cause
            elif isinstance(outcome, Done):
                yield fresh, self._limit(round_, outcome)
            else:
                # Each of these failures takes memory of Redis, which may suffice for some of them only.
                for limited, those in itertools.groupby(fresh, lambda _position: self._limit(round_, outcome)):
                    yield list(those), limited
        if single:
            yield from self._call_singly(round_, single, cause)

    def _call_singly(self, round_: Round, positions: Sequence[int], cause: Failed | Rejected | None) -> CallOutcomes:
        """Call the handler with one event at a time; `cause` is how the batch failed that held some of them."""
        failures = 0
        for index, outcome in self._call(round_, [round_.events[p] for p in positions], singly=True):
            yield (positions[index],), outcome
            failures = failures + 1 if isinstance(outcome, Failed) else 0
            if isinstance(cause, Failed) and failures == _MAX_CONSECUTIVE_FAILURES:
                # Events on a later attempt were not in the batch: they keep their attempt, and wait for the next run.
                for position in positions[index + 1 :]:
                    if round_.attempt(position) == queues.FIRST_ATTEMPT:
                        limited = self._failure_limit.apply(cause, is_probe=False)
                        round_.probe.observe(limited)
                        yield (position,), limited
                return

    def _call_concurrently(self, round_: Round, positions: list[int]) -> CallOutcomes:
        """Call a handler that works on many events at once; waiting events join when it has free slots."""
        called = [round_.events[position] for position in positions]

        def more(free_slots: int) -> Sequence[events.Event]:
            joining = self._claim_more(round_, free_slots)
            positions.extend(joining)
            called.extend(round_.events[position] for position in joining)
            return called[len(called) - len(joining) :]

        for index, outcome in self._call(round_, called, more=more):
            yield (positions[index],), outcome

    def call_one_by_one(self, round_: Round) -> CallOutcomes:
        """Call the handler with one event after the other; an event that killed MAX_DEATHS workers is rejected."""
        for position, event in enumerate(round_.events):
            if position == 0 and round_.deaths >= MAX_DEATHS:
                outcome: Outcome = Rejected(f"{MAX_DEATHS} workers died while the handler had it")
                yield (position,), outcome
                if self._spans is not None:
                    self._spans.record_uncalled(event, outcome)
                continue
            for _, outcome in self._call(round_, [event], singly=True):
                yield (position,), outcome

    def call_split(self, round_: Round) -> CallOutcomes:
        """Call the handler with the events that have no outcome yet, in ever smaller parts.

        The event with which this service fails alone gets that failure as its outcome. Raise SettlementFailed if it
        fails with MAX_STUCK events alone before one has succeeded.
        """
        left = deque(halves(round_.without_outcome(range(len(round_.events)))))
        # Until one event has succeeded, nobody knows whether the events are the cause.
        stuck: list[CallOutcome] = []
        works = False
        while left and not self._must_stop(round_):
            positions = round_.without_outcome(left.popleft())
            try:
                for index, outcome in self._call(round_, [round_.events[p] for p in positions], singly=True):
                    works = True
                    yield (positions[index],), outcome
            except Exception as exc:
                if ends_run(exc):
                    raise
                if len(positions) > 1:
                    left.extendleft(reversed(halves(positions)))
                    continue
                stuck += [((position,), failed_event(exc, handler=self._handler.name)) for position in positions]
                if not works and len(stuck) >= MAX_STUCK:
                    raise SettlementFailed(SettlementFailed.__doc__) from exc
            if works:
                yield from stuck
                stuck = []
        yield from stuck

    def _call(
        self,
        round_: Round,
        called: Sequence[events.Event],
        *,
        singly: bool = False,
        more: Callable[[int], Sequence[events.Event]] | None = None,
    ) -> Iterator[tuple[int, Outcome]]:
        """Call the handler as a Caller does, until the worker is to stop or the handler is paused."""
        results = self._caller.call(called, singly=singly, stop=lambda: self._must_stop(round_), more=more)
        for index, outcome in results if self._spans is None else self._spans.end_calls(called, results):
            yield index, self._limit(round_, outcome)

    def _limit(self, round_: Round, outcome: Outcome) -> Outcome:
        """Return the outcome of an event's call, or a pause if there is no room for it; take it into account."""
        if isinstance(outcome, Done) and not round_.probe.is_probe:
            return outcome
        limited = self._failure_limit.apply(outcome, is_probe=round_.probe.is_probe)
        round_.probe.observe(limited)
        return limited

    def _must_stop(self, round_: Round) -> bool:
        return round_.probe.is_paused or self._is_stopping()
