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
from shared.metrics import SECONDS, Figures
from workers.declaration import Handler
from workers.deliver.call.caller import Caller
from workers.deliver.call.spans import CallSpans
from workers.deliver.call.watchdog import Watchdog
from workers.deliver.pause_probe import Part
from workers.deliver.prefetch import Intake
from workers.deliver.run import Run
from workers.deliver.settler import MOST_STUCK, Settler, Unsettled, halves, unworkable
from workers.runtime import outcome as outcomes
from workers.runtime import redis_retry
from workers.runtime.completion_journal import Notebook
from workers.runtime.headroom import FailureLimit
from workers.runtime.outcome import Apart, Done, Failed, Outcome, Paused, Rejected
from workers.runtime.settlement import MOST_DEATHS, Portion
from workers.runtime.steps import OnHold, StaleRun, Steps
from workers.runtime.worker import Held, Unfinished

log = logging.getLogger("callbacks.deliver")

# What became of some events, by their positions: known together, so noted and settled together.
_Known: TypeAlias = Sequence[tuple[int, Outcome]]
# A settlement costs a round trip and an fsync, about 1 ms; what is not settled is in the worker's notebook, and lost
# with the machine. So little of the time is spent on it, and little is at stake.
_SETTLE_SECONDS: Final = 0.25
# A handler that fails with this many events one after the other, after it failed with the batch, would fail with all:
# at a time-out each, thousands of events would keep its queue for a day.
_FAILURES_IN_A_ROW: Final = 10


class Deliveries:
    """Delivers to one handler in this process. `is_stopping` is asked between events."""

    def __init__(
        self,
        *,
        steps: Steps,
        handler: Handler,
        caller: Caller,
        notebook: Notebook,
        is_stopping: Callable[[], bool],
        figures: Figures | None = None,
        spans: CallSpans | None = None,
    ) -> None:
        self._steps = steps
        self._handler = handler
        self._caller = caller
        self._notebook = notebook
        self._is_stopping = is_stopping
        self._watchdog = Watchdog(handler.timeout_seconds)
        self._spans = spans
        self._intake = Intake(steps, handler)
        self._failure_limit = FailureLimit(steps.headroom)
        figures = Figures() if figures is None else figures
        self._handler_seconds = figures.histogram(("handler", handler.name), SECONDS)
        self._settler = Settler(steps=steps, handler=handler, notebook=notebook, figures=figures, spans=spans)

    def run(self, *, job_id: str, worker: str, arguments: Sequence[Any]) -> None:
        """Deliver the running job's events, and those of the jobs waiting behind it; `worker` is who runs it, by name.

        Raises Unfinished if it was asked to stop before all were delivered, Held if the handler is paused, StaleRun
        if another worker has gone on with the job, and redis.RedisError; each leaves what is not settled to the job's
        next run.
        """
        portions = self._take(job_id, arguments)
        run, part = Run(portions, worker=worker), Part(is_probe=portions[0].is_probe)
        try:
            self._expect(run, range(len(run.events)))
            self._deliver(run, part, deaths=portions[0].deaths)
        finally:
            if self._spans is not None:
                self._spans.end()

    def _expect(self, run: Run, positions: range) -> None:
        """Make ready for events that have come into the run. The notes of others end with this."""
        self._notebook.begin(run.job_ids)
        if self._spans is not None:
            self._spans.expect(run.traced(positions))

    def _deliver(self, run: Run, part: Part, *, deaths: int) -> None:
        # Once a worker has died of it, each event is called alone and settled at once, so that it shows which it is.
        pause = 0.0 if deaths else _SETTLE_SECONDS
        try:
            self._work_on(
                run, part, self._one_by_one(run, part, deaths) if deaths else self._outcomes(run, part), pause
            )
        except Exception as exc:
            if isinstance(exc, StaleRun | Unfinished | Unsettled) or redis_retry.is_unavailable(exc):
                raise
            log.error("action=run_apart handler=%s cause=%s", self._handler.name, outcomes.unworkable(exc).cause)
            self._work_on(run, part, self._apart(run, part), pause)
        part.end()
        self._settler.settle(run, part)
        self._learn(run.ended, time.monotonic() - run.began)
        if not run.is_settled or run.may_have_more:
            raise self._held() if part.is_held else Unfinished()

    def _work_on(self, run: Run, part: Part, called: Generator[_Known, None, None], pause: float) -> None:
        """Write down what becomes of the events that are `called`, at the latest `pause` seconds later."""
        # Closed at once where a settlement is refused: the calls under way end with it.
        with closing(called):
            self._watchdog.watch()
            try:
                for known in called:
                    # Other processes are to hear of a pause, or of its end, before the next call.
                    if self._enter(run, known) or part.has_news or time.monotonic() - run.settled_at >= pause:
                        self._watchdog.rest()  # Redis may be away for any time
                        self._settler.settle(run, part)
                        self._watchdog.watch()
            finally:
                self._watchdog.rest()

    def _take(self, job_id: str, arguments: Sequence[Any]) -> list[Portion]:
        try:
            return self._intake.begin(job_id, arguments)
        except OnHold as exc:
            raise self._held() from exc

    def _held(self) -> Held:
        return Held(self._seconds_held)

    def _seconds_held(self) -> float:
        seconds, name = self._steps.seconds_held(self._handler.name), self._handler.name
        if seconds > 0 and self._failure_limit.has_recovered() and self._steps.recover(name):
            log.info("action=handler_resumed handler=%s by=memory", name)
            return 0.0
        return seconds

    def _enter(self, run: Run, known: _Known) -> bool:
        """Note what became of some events; say whether the notebook cannot hold it, so that it must be settled now."""
        must_settle = False
        for position, outcome in known:
            if isinstance(outcome, Paused):
                continue  # it has not been tried: it stays what it was
            run.enter(position, outcome)
            # Failures are rare, and have more to say than a note can.
            if not isinstance(outcome, Done) or self._notebook.is_full:
                must_settle = True
            else:
                self._notebook.note(*run.origin(position))
        return must_settle

    def _more(self, run: Run, part: Part, *, hands: int) -> range:
        """Take what waits into a run that goes on and has so many hands free; give its positions."""
        self._watchdog.rest()
        portions = self._intake.more(run, hands=hands)
        # What is noted: before the notes begin anew, and before a slow call keeps it waiting.
        if portions or time.monotonic() - run.settled_at >= _SETTLE_SECONDS:
            self._settler.settle(run, part)
        positions = run.add(portions)
        if portions:
            self._expect(run, positions)
        self._watchdog.watch()
        return positions

    def _called(
        self,
        part: Part,
        found: Sequence[events.Event],
        *,
        singly: bool = False,
        more: Callable[[int], Sequence[events.Event]] | None = None,
    ) -> Iterator[tuple[int, Outcome]]:
        """Call the handler as a Caller does, until the worker is to stop or the handler is paused."""

        def stop() -> bool:
            return part.is_held or self._is_stopping()

        told = self._caller.run(found, singly=singly, stop=stop, more=more)
        for index, outcome in told if self._spans is None else self._spans.watched(found, told):
            limited = self._failure_limit.limited(outcome, is_probe=part.is_probe)
            part.hear(limited)
            yield index, limited

    def _outcomes(self, run: Run, part: Part) -> Generator[_Known, None, None]:
        """Call the handler: a batch handler first with all that is new to it, then with one event at a time.

        Alone come those that failed before, or one bad event would fail a whole batch at each attempt, and the
        events of a batch that failed. Where the handler asked for time, or fails with one event after the other, it
        is not the events' doing: the rest of the batch has failed with it, and each is tried again alone, later.

        After a pause one event comes before all others, alone.
        """
        tried = 0
        if part.is_probe:
            for _, outcome in self._called(part, run.events[:1], singly=True):
                yield ((0, outcome),)
            tried = 1
        rest = range(tried, len(run.events))
        fresh = [position for position in rest if run.attempts[position] == queues.FIRST_ATTEMPT]
        alone = [position for position in rest if run.attempts[position] > queues.FIRST_ATTEMPT]
        if self._caller.takes_more:
            yield from self._at_once(run, part, [*fresh, *alone])
            return
        cause: Failed | Rejected | None = None
        whole: list[tuple[int, Outcome]] = []
        for index, outcome in self._called(part, [run.events[p] for p in fresh]):
            if isinstance(outcome, Apart):
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
        for index, outcome in self._called(part, [run.events[p] for p in alone], singly=True):
            yield ((alone[index], outcome),)
            failures = failures + 1 if isinstance(outcome, Failed) else 0
            if isinstance(cause, Failed) and failures == _FAILURES_IN_A_ROW:
                # Those that came alone anyway have not been in this batch: they keep their attempt, and come later.
                left = [position for position in alone[index + 1 :] if run.attempts[position] == queues.FIRST_ATTEMPT]
                for position in left:
                    limited = self._failure_limit.limited(cause, is_probe=False)
                    part.hear(limited)
                    yield ((position, limited),)
                return

    def _at_once(self, run: Run, part: Part, positions: list[int]) -> Generator[_Known, None, None]:
        """Call a handler that works on many events at once; others that wait join them when its hands are free."""
        found = [run.events[position] for position in positions]

        def more(hands: int) -> Sequence[events.Event]:
            joining = self._more(run, part, hands=hands)
            positions.extend(joining)
            found.extend(run.events[position] for position in joining)
            return found[len(found) - len(joining) :]

        for index, outcome in self._called(part, found, more=more):
            yield ((positions[index], outcome),)

    def _one_by_one(self, run: Run, part: Part, deaths: int) -> Generator[_Known, None, None]:
        """Call the handler with one event after the other, and not at all with the one that killed so many workers."""
        for position, event in enumerate(run.events):
            if position == 0 and deaths >= MOST_DEATHS:
                outcome: Outcome = Rejected(f"{MOST_DEATHS} workers died while the handler had it")
                yield ((position, outcome),)
                if self._spans is not None:
                    self._spans.uncalled(event, outcome)
                continue
            for _, outcome in self._called(part, [event], singly=True):
                yield ((position, outcome),)

    def _apart(self, run: Run, part: Part) -> Generator[_Known, None, None]:
        """Call the handler with the events of which nobody knows what became of them, fewer at a time.

        The one with which this service fails alone is not tried any more.
        """
        left = deque(halves(run.without_outcome(range(len(run.events)))))
        # Until one event has gone well, nobody knows that it is the events' doing.
        stuck: list[tuple[int, Outcome]] = []
        works = False
        while left and not part.is_held and not self._is_stopping():
            positions = run.without_outcome(left.popleft())
            try:
                for index, outcome in self._called(part, [run.events[p] for p in positions], singly=True):
                    works = True
                    yield ((positions[index], outcome),)
            except Exception as exc:
                if isinstance(exc, StaleRun | Unfinished | Unsettled) or redis_retry.is_unavailable(exc):
                    raise
                if len(positions) > 1:
                    left.extendleft(reversed(halves(positions)))
                    continue
                stuck += [(position, unworkable(exc, handler=self._handler.name)) for position in positions]
                if not works and len(stuck) >= MOST_STUCK:
                    raise Unsettled(Unsettled.__doc__) from exc
            if works and stuck:
                yield stuck
                stuck = []
        if stuck:
            yield stuck

    def _learn(self, number: int, seconds: float) -> None:
        if number:
            self._handler_seconds.observe(seconds / number, number)
            self._intake.learn(number, seconds)
