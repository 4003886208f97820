"""Events are handed to one handler, and what becomes of each is written down: done, tried again later, or dead.

One event's failure is its own (I5): it leaves its batch and waits alone for its next attempt; after the last it
becomes a dead letter. So it is where this service fails with an event: the run is taken apart until that one is alone,
and it becomes a dead letter with the traceback. Events that are done are noted at once and settled four times a
second, failed ones are settled at once. So after a kill the job's next run repeats only what the worker was working on.

Where the handler asks for a pause the run ends early, and its events wait as they are (see `probing` and `pauses`).
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, Final, TypeAlias

from shared import events, queues
from shared.metrics import SECONDS_BUCKETS, Metrics
from workers.declaration import Handler
from workers.deliver.call.caller import Caller
from workers.deliver.call.spans import CallSpans
from workers.deliver.call.watchdog import Watchdog
from workers.deliver.pause_probe import ProbeState
from workers.deliver.prefetch import Prefetcher
from workers.deliver.run import Run
from workers.deliver.settler import MAX_STUCK, SettlementFailed, Settler, failed_event, halves
from workers.runtime import outcome as outcomes
from workers.runtime import redis_retry
from workers.runtime.completion_journal import CompletionJournal
from workers.runtime.headroom import FailureLimit
from workers.runtime.outcome import Done, Failed, Outcome, Paused, Rejected, Split
from workers.runtime.settlement import MAX_DEATHS, ClaimedJob
from workers.runtime.steps import HandlerPaused, StaleRun, Steps
from workers.runtime.worker import RunPaused, Unfinished

log = logging.getLogger("callbacks.deliver")

# What became of some events, by their positions: known together, so noted and settled together.
_Outcomes: TypeAlias = Sequence[tuple[int, Outcome]]
# A settlement costs a round trip and an fsync, about 1 ms; what is not settled is in the worker's notebook, and lost
# with the machine. So little of the time is spent on it, and little is at stake.
_SETTLE_SECONDS: Final = 0.25
# A handler that fails with this many events one after the other, after it failed with the batch, would fail with all:
# at a time-out each, thousands of events would keep its queue for a day.
_MAX_CONSECUTIVE_FAILURES: Final = 10


class Deliverer:
    """Delivers to one handler in this process. `is_stopping` is asked between events."""

    def __init__(
        self,
        *,
        steps: Steps,
        handler: Handler,
        caller: Caller,
        journal: CompletionJournal,
        is_stopping: Callable[[], bool],
        metrics: Metrics | None = None,
        spans: CallSpans | None = None,
    ) -> None:
        self._steps = steps
        self._handler = handler
        self._caller = caller
        self._journal = journal
        self._is_stopping = is_stopping
        self._watchdog = Watchdog(handler.timeout_seconds)
        self._spans = spans
        self._prefetcher = Prefetcher(steps, handler)
        self._failure_limit = FailureLimit(steps.headroom)
        metrics = Metrics() if metrics is None else metrics
        self._handler_seconds = metrics.histogram(("handler", handler.name), SECONDS_BUCKETS)
        self._settler = Settler(steps=steps, handler=handler, journal=journal, metrics=metrics, spans=spans)

    def run(self, *, job_id: str, worker: str, arguments: Sequence[Any]) -> None:
        """Deliver the running job's events, and those of the jobs waiting behind it; `worker` is who runs it, by name.

        Raises Unfinished if it was asked to stop before that, RunPaused if the handler is paused, StaleRun
        if another worker has gone on with the job, and redis.RedisError; each leaves what is not settled to the job's
        next run.
        """
        claimed_jobs = self._claim(job_id, arguments)
        run, probe = Run(claimed_jobs, worker=worker), ProbeState(is_probe=claimed_jobs[0].is_probe)
        try:
            self._begin_events(run, range(len(run.events)))
            self._deliver(run, probe, deaths=claimed_jobs[0].deaths)
        finally:
            if self._spans is not None:
                self._spans.end()

    def _begin_events(self, run: Run, positions: range) -> None:
        """Make ready for events that have come into the run. The notes of others end with this."""
        self._journal.begin(run.job_ids)
        if self._spans is not None:
            self._spans.add(run.traced_events(positions))

    def _deliver(self, run: Run, probe: ProbeState, *, deaths: int) -> None:
        # Once a worker has died of it, each event is called alone and settled at once, so that it shows which it is.
        pause = 0.0 if deaths else _SETTLE_SECONDS
        try:
            self._record_outcomes(
                run,
                probe,
                self._call_one_by_one(run, probe, deaths) if deaths else self._call_handler(run, probe),
                pause,
            )
        except Exception as exc:
            if isinstance(exc, StaleRun | Unfinished | SettlementFailed) or redis_retry.is_unavailable(exc):
                raise
            log.error("action=run_split handler=%s cause=%s", self._handler.name, outcomes.internal_error(exc).cause)
            self._record_outcomes(run, probe, self._call_split(run, probe), pause)
        probe.end()
        self._settler.settle(run, probe)
        self._observe_pace(run.recorded, time.monotonic() - run.started_at)
        if not run.is_settled or run.needs_another_run:
            raise self._handler_paused() if probe.is_paused else Unfinished()

    def _record_outcomes(
        self, run: Run, probe: ProbeState, called: Generator[_Outcomes, None, None], pause: float
    ) -> None:
        """Write down what becomes of the events that are `called`, at the latest `pause` seconds later."""
        # Closed at once where a settlement is refused: the calls under way end with it.
        with closing(called):
            self._watchdog.arm()
            try:
                for known in called:
                    # Other processes are to hear of a pause, or of its end, before the next call.
                    if self._record(run, known) or probe.has_change or time.monotonic() - run.settled_at >= pause:
                        self._watchdog.disarm()  # Redis may be away for any time
                        self._settler.settle(run, probe)
                        self._watchdog.arm()
            finally:
                self._watchdog.disarm()

    def _claim(self, job_id: str, arguments: Sequence[Any]) -> list[ClaimedJob]:
        try:
            return self._prefetcher.claim(job_id, arguments)
        except HandlerPaused as exc:
            raise self._handler_paused() from exc

    def _handler_paused(self) -> RunPaused:
        return RunPaused(self._seconds_paused)

    def _seconds_paused(self) -> float:
        seconds, name = self._steps.seconds_paused(self._handler.name), self._handler.name
        if seconds > 0 and self._failure_limit.has_recovered() and self._steps.end_memory_pause(name):
            log.info("action=handler_resumed handler=%s by=memory", name)
            return 0.0
        return seconds

    def _record(self, run: Run, known: _Outcomes) -> bool:
        """Note what became of some events; say whether the notebook cannot hold it, so that it must be settled now."""
        must_settle = False
        for position, outcome in known:
            if isinstance(outcome, Paused):
                continue  # it has not been tried: it stays what it was
            run.record(position, outcome)
            # Failures are rare, and have more to say than a note can.
            if not isinstance(outcome, Done) or self._journal.is_full:
                must_settle = True
            else:
                self._journal.record(*run.origin(position))
        return must_settle

    def _claim_more(self, run: Run, probe: ProbeState, *, free_slots: int) -> range:
        """Take what waits into a run that goes on and has so many hands free; give its positions."""
        self._watchdog.disarm()
        claimed_jobs = self._prefetcher.claim_more(run, free_slots=free_slots)
        # What is noted: before the notes begin anew, and before a slow call keeps it waiting.
        if claimed_jobs or time.monotonic() - run.settled_at >= _SETTLE_SECONDS:
            self._settler.settle(run, probe)
        positions = run.add(claimed_jobs)
        if claimed_jobs:
            self._begin_events(run, positions)
        self._watchdog.arm()
        return positions

    def _call(
        self,
        probe: ProbeState,
        found: Sequence[events.Event],
        *,
        singly: bool = False,
        more: Callable[[int], Sequence[events.Event]] | None = None,
    ) -> Iterator[tuple[int, Outcome]]:
        """Call the handler as a Caller does, until the worker is to stop or the handler is paused."""

        def stop() -> bool:
            return probe.is_paused or self._is_stopping()

        told = self._caller.call(found, singly=singly, stop=stop, more=more)
        for index, outcome in told if self._spans is None else self._spans.end_calls(found, told):
            limited = self._failure_limit.apply(outcome, is_probe=probe.is_probe)
            probe.observe(limited)
            yield index, limited

    def _call_handler(self, run: Run, probe: ProbeState) -> Generator[_Outcomes, None, None]:
        """Call the handler: a batch handler first with all that is new to it, then with one event at a time.

        Alone come those that failed before, or one bad event would fail a whole batch at each attempt, and the
        events of a batch that failed. Where the handler asked for time, or fails with one event after the other, it
        is not the events' doing: the rest of the batch has failed with it, and each is tried again alone, later.

        After a pause one event comes before all others, alone.
        """
        tried = 0
        if probe.is_probe:
            for _, outcome in self._call(probe, run.events[:1], singly=True):
                yield ((0, outcome),)
            tried = 1
        rest = range(tried, len(run.events))
        fresh = [position for position in rest if run.attempts[position] == queues.FIRST_ATTEMPT]
        alone = [position for position in rest if run.attempts[position] > queues.FIRST_ATTEMPT]
        if self._caller.can_prefetch:
            yield from self._call_concurrently(run, probe, [*fresh, *alone])
            return
        cause: Failed | Rejected | None = None
        whole: list[tuple[int, Outcome]] = []
        for index, outcome in self._call(probe, [run.events[p] for p in fresh]):
            if isinstance(outcome, Split):
                cause = outcome.cause
                alone.append(fresh[index])
                continue
            known = (fresh[index], outcome)
            if self._handler.batch:
                whole.append(known)  # one call, so all of it is known at once
            else:
                yield (known,)
        if whole:
            yield whole
        alone.sort()
        failures = 0
        for index, outcome in self._call(probe, [run.events[p] for p in alone], singly=True):
            yield ((alone[index], outcome),)
            failures = failures + 1 if isinstance(outcome, Failed) else 0
            if isinstance(cause, Failed) and failures == _MAX_CONSECUTIVE_FAILURES:
                # Those that came alone anyway have not been in this batch: they keep their attempt, and come later.
                left = [position for position in alone[index + 1 :] if run.attempts[position] == queues.FIRST_ATTEMPT]
                for position in left:
                    limited = self._failure_limit.apply(cause, is_probe=False)
                    probe.observe(limited)
                    yield ((position, limited),)
                return

    def _call_concurrently(self, run: Run, probe: ProbeState, positions: list[int]) -> Generator[_Outcomes, None, None]:
        """Call a handler that works on many events at once; others that wait join them when its hands are free."""
        found = [run.events[position] for position in positions]

        def more(free_slots: int) -> Sequence[events.Event]:
            joining = self._claim_more(run, probe, free_slots=free_slots)
            positions.extend(joining)
            found.extend(run.events[position] for position in joining)
            return found[len(found) - len(joining) :]

        for index, outcome in self._call(probe, found, more=more):
            yield ((positions[index], outcome),)

    def _call_one_by_one(self, run: Run, probe: ProbeState, deaths: int) -> Generator[_Outcomes, None, None]:
        """Call the handler with one event after the other, and not at all with the one that killed so many workers."""
        for position, event in enumerate(run.events):
            if position == 0 and deaths >= MAX_DEATHS:
                outcome: Outcome = Rejected(f"{MAX_DEATHS} workers died while the handler had it")
                yield ((position, outcome),)
                if self._spans is not None:
                    self._spans.record_uncalled(event, outcome)
                continue
            for _, outcome in self._call(probe, [event], singly=True):
                yield ((position, outcome),)

    def _call_split(self, run: Run, probe: ProbeState) -> Generator[_Outcomes, None, None]:
        """Call the handler with the events of which nobody knows what became of them, fewer at a time.

        The one with which this service fails alone is not tried any more.
        """
        left = deque(halves(run.without_outcome(range(len(run.events)))))
        # Until one event has gone well, nobody knows that it is the events' doing.
        stuck: list[tuple[int, Outcome]] = []
        works = False
        while left and not probe.is_paused and not self._is_stopping():
            positions = run.without_outcome(left.popleft())
            try:
                for index, outcome in self._call(probe, [run.events[p] for p in positions], singly=True):
                    works = True
                    yield ((positions[index], outcome),)
            except Exception as exc:
                if isinstance(exc, StaleRun | Unfinished | SettlementFailed) or redis_retry.is_unavailable(exc):
                    raise
                if len(positions) > 1:
                    left.extendleft(reversed(halves(positions)))
                    continue
                stuck += [(position, failed_event(exc, handler=self._handler.name)) for position in positions]
                if not works and len(stuck) >= MAX_STUCK:
                    raise SettlementFailed(SettlementFailed.__doc__) from exc
            if works and stuck:
                yield stuck
                stuck = []
        if stuck:
            yield stuck

    def _observe_pace(self, number: int, seconds: float) -> None:
        if number:
            self._handler_seconds.observe(seconds / number, number)
            self._prefetcher.observe(number, seconds)
