"""Events are handed to one handler, and what becomes of each is written down: done, tried again later, or dead.

One event's failure is its own (I5): it leaves its batch and waits alone for its next attempt; after the last it
becomes a dead letter. What is done is noted at once and settled while the rest still runs, what failed is settled at
once, so that a killed worker's next one repeats nothing but what was in its hands.
"""

import logging
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeAlias

from msgspec import Struct
from rq.job import JobStatus

from shared import batches, events, keys, progress, queues
from workers.calling import Caller
from workers.declaration import Handler
from workers.notebook import Notebook
from workers.outcomes import DONE, Again, Apart, Done, Failed, Outcome, Rejected
from workers.rq_worker import Unfinished
from workers.settling import MOST_DEATHS, Argument, Later, Portion, SetAside, Settlement, Steps
from workers.watchdog import Watchdog

log = logging.getLogger("callbacks.deliver")

TAKE_ITEMS: Final = 5_000
# As Python objects they take some 26 times as much (an ordinary report 20 times).
TAKE_BYTES: Final = 4 << 20
# A slow handler takes along only what it gets done in about this time; the rest is left to its other processes.
_TAKE_SECONDS: Final = 1.0
# What became of some events: known together, so noted and settled together.
_Step: TypeAlias = Sequence[tuple[int, Outcome]]
# What is finished between two settlements is in the worker's notebook alone.
_SETTLE_SECONDS: Final = 0.25
_LONGEST_WAIT_SECONDS: Final = 3600.0
# A frame of a traceback as Python writes it.
_PLACE: Final = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)
# A handler that fails with this many events one after the other, after it failed with the batch, would fail with all:
# at a time-out each, thousands of events would keep its queue for a day.
_FAILURES_IN_A_ROW: Final = 10


def wait_seconds(attempt: int) -> float:
    """Give the pause after a failed attempt (1 is the first): 1, 4, 16, 64, … seconds, an hour at most.

    Eight attempts so cover about an hour and a half. A tenth is left to chance, lest events that failed together
    come back together.
    """
    # Any larger power of 4 is past the longest wait, and a very large one past what a float holds.
    power = min(attempt - 1, 6)
    return min(4.0**power, _LONGEST_WAIT_SECONDS) * random.uniform(0.9, 1.1)  # noqa: S311 # no secret


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
    ) -> None:
        self._steps = steps
        self._handler = handler
        self._caller = caller
        self._notebook = notebook
        self._is_stopping = is_stopping
        self._watchdog = Watchdog(handler.timeout_seconds)
        self._seconds_an_event: float | None = None

    def run(self, *, job_id: str, arguments: Sequence[Any]) -> None:
        """Deliver the running job's events, and those of the jobs waiting behind it.

        Raises Unfinished if it was asked to stop before all were delivered, StaleRun if another worker has gone on
        with the job, and redis.RedisError; each leaves what is not settled to the job's next run.
        """
        portions = self._steps.take(
            queue=queues.delivery(self._handler.name),
            job_id=job_id,
            own_arguments=arguments,
            most_items=self._appetite(),
            most_bytes=TAKE_BYTES,
        )
        run = _Run(portions)
        self._notebook.begin([portion.job_id for portion in portions])
        deaths = portions[0].deaths
        # Once a worker has died of it, each event is called alone and settled at once, so that it shows which it is.
        pause = 0.0 if deaths else _SETTLE_SECONDS
        started = settled = time.monotonic()
        # Closed at once where a settlement is refused: the calls under way end with it.
        with closing(self._one_by_one(run, deaths) if deaths else self._outcomes(run)) as outcomes:
            self._watchdog.watch()
            try:
                for step in outcomes:
                    if self._enter(run, step) or time.monotonic() - settled >= pause:
                        self._watchdog.rest()  # Redis may be away for any time
                        self._settle(job_id, run)
                        settled = time.monotonic()
                        self._watchdog.watch()
            finally:
                self._watchdog.rest()
        self._settle(job_id, run)
        self._learn(run.ended, time.monotonic() - started)
        if not run.is_settled:
            raise Unfinished

    def _enter(self, run: "_Run", step: _Step) -> bool:
        """Note what a step brought; say whether it has to be settled at once, as the notebook cannot hold it."""
        at_once = False
        for position, outcome in step:
            run.enter(position, outcome)
            # Failures are rare, and have more to say than a note can.
            if not isinstance(outcome, Done) or self._notebook.is_full:
                at_once = True
            else:
                self._notebook.note(*run.origin(position))
        return at_once

    def _outcomes(self, run: "_Run") -> Generator[_Step, None, None]:
        """Call the handler: a batch handler first with all that is new to it, then with one event at a time.

        Alone come those that failed before, lest one bad event fail a whole batch at each of its attempts, and the
        events of a batch that failed. Where the handler asked for time, or fails with one event after the other, it
        is not the events' doing: the rest of the batch has failed with it, and each is tried again alone, later.
        """
        fresh = [position for position, attempt in enumerate(run.attempts) if attempt == queues.FIRST_ATTEMPT]
        alone = [position for position, attempt in enumerate(run.attempts) if attempt > queues.FIRST_ATTEMPT]
        cause: Failed | Again | Rejected | None = None
        whole: list[tuple[int, Outcome]] = []
        for index, outcome in self._caller.run([run.events[p] for p in fresh], stop=self._is_stopping):
            if isinstance(outcome, Apart) and not isinstance(outcome.cause, Again):
                cause = outcome.cause
                alone.append(fresh[index])
                continue
            known = (fresh[index], outcome.cause if isinstance(outcome, Apart) else outcome)
            if self._handler.batch:
                whole.append(known)  # one call, so all of it is known at once
            else:
                yield (known,)
        if whole:
            yield whole
        alone.sort()
        failures = 0
        for index, outcome in self._caller.run([run.events[p] for p in alone], singly=True, stop=self._is_stopping):
            yield ((alone[index], outcome),)
            failures = failures + 1 if isinstance(outcome, Failed) else 0
            if isinstance(cause, Failed) and failures == _FAILURES_IN_A_ROW:
                # Those that came alone anyway have not been in this batch: they keep their attempt, and come later.
                rest = [position for position in alone[index + 1 :] if run.attempts[position] == queues.FIRST_ATTEMPT]
                yield [(position, cause) for position in rest]
                return

    def _one_by_one(self, run: "_Run", deaths: int) -> Generator[_Step, None, None]:
        """Call the handler with one event after the other, and not at all with the one that killed so many workers."""
        for position, event in enumerate(run.events):
            if position == 0 and deaths >= MOST_DEATHS:
                yield ((position, Rejected(f"{MOST_DEATHS} workers died while the handler had it")),)
                continue
            for _, outcome in self._caller.run([event], singly=True, stop=self._is_stopping):
                yield ((position, outcome),)

    def _appetite(self) -> int:
        if self._seconds_an_event is None:
            return 1  # its first job shows how fast it is
        return max(1, min(TAKE_ITEMS, int(_TAKE_SECONDS / max(self._seconds_an_event, 1e-6))))

    def _learn(self, number: int, seconds: float) -> None:
        if number:
            known = self._seconds_an_event
            self._seconds_an_event = seconds / number if known is None else (known + seconds / number) / 2

    def _settle(self, job_id: str, run: "_Run") -> None:
        settlements, finished = run.advance()
        if not settlements:
            return
        sheet = _Sheet(self._handler)
        for event, attempt, outcome in finished:
            sheet.enter(event, attempt, outcome)
        self._steps.settle(
            run_id=job_id,
            handler=self._handler.name,
            settlements=settlements,
            counts=sheet.counts,
            dead=sheet.dead,
            later=sheet.later,
        )
        self._notebook.clear()
        for (action, cause), number in sheet.actions.items():
            log.warning("action=%s handler=%s events=%d cause=%s", action, self._handler.name, number, cause)


class _Share(Struct):
    """One job's part of a run: its number there, its settled items' places, how many it has, its progress so far."""

    number: int
    portion: Portion
    settled: set[int]
    size: int
    written: str

    @property
    def is_settled(self) -> bool:
        return len(self.settled) == self.size


class _Run:
    """The events of one run in order, what became of them, and how far all of them are settled."""

    def __init__(self, portions: Sequence[Portion]) -> None:
        self.events: list[events.Event] = []
        self.attempts: list[int] = []
        self.ended = 0
        self._origins: list[tuple[_Share, int]] = []
        self._shares: list[_Share] = []
        self._outcomes: dict[int, Outcome] = {}
        # What was finished in the hands of a worker that died goes into the first settlement.
        self._finished: list[tuple[events.Event, int, Outcome]] = []
        for number, portion in enumerate(portions):
            _version, _handler, attempt, encoded = portion.arguments
            share = _Share(number, portion, set(progress.read(portion.progress)), len(encoded), portion.progress)
            finished = sorted(portion.finished - share.settled)
            found = events.convert([encoded[place] for place in finished])
            self._finished.extend((event, attempt, DONE) for event in found)
            share.settled.update(finished)
            places = [place for place in range(share.size) if place not in share.settled]
            self.events.extend(events.convert([encoded[place] for place in places]))
            self.attempts.extend([attempt] * len(places))
            self._origins.extend((share, place) for place in places)
            self._shares.append(share)

    @property
    def is_settled(self) -> bool:
        return all(share.is_settled for share in self._shares)

    def enter(self, position: int, outcome: Outcome) -> None:
        """Note what became of an event."""
        self._outcomes[position] = outcome
        self.ended += 1

    def origin(self, position: int) -> tuple[int, int]:
        """Give the number of the job that brought an event, and the event's place in it."""
        share, place = self._origins[position]
        return share.number, place

    def advance(self) -> tuple[list[Settlement], list[tuple[events.Event, int, Outcome]]]:
        """Give what became of events since the last time, and how that settles the jobs that brought them."""
        finished, self._finished = self._finished, []
        finished += [(self.events[p], self.attempts[p], outcome) for p, outcome in self._outcomes.items()]
        for position in self._outcomes:
            share, place = self._origins[position]
            share.settled.add(place)
        self._outcomes.clear()
        settlements: list[Settlement] = []
        for share in self._shares:
            now = progress.write(share.settled)
            if now != share.written:
                settlements.append(Settlement(share.portion, share.written, now, ends=share.is_settled))
                share.written = now
        return settlements, finished


class _Sheet:
    """What one settlement writes: counts, dead letters, retries."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.counts: Counter[str] = Counter()
        self.actions: Counter[tuple[str, str]] = Counter()
        self.dead: list[SetAside] = []
        self.later: list[Later] = []

    def enter(self, event: events.Event, attempt: int, outcome: Outcome) -> None:
        name = self._handler.name
        if isinstance(outcome, Done):
            self.counts[keys.handler_count(name, event.kind, "delivered")] += 1
        elif isinstance(outcome, Rejected) or attempt >= self._handler.attempts:
            self.counts[keys.handler_count(name, event.kind, "dead")] += 1
            self.actions["event_dead", _cause(outcome)] += 1
            self.dead.append(_dead_letter(name, event, attempt, outcome))
        else:
            wait = outcome.after_seconds if isinstance(outcome, Again) else None
            self.actions["event_retried", _cause(outcome)] += 1
            self.later.append(_retry(name, event, attempt + 1, wait_seconds(attempt) if wait is None else wait))


def _dead_letter(handler: str, event: events.Event, attempt: int, outcome: Outcome) -> SetAside:
    now_ms = batches.now_ms()
    fields: dict[str, Argument] = {
        "event": events.encode(event),
        "error": _why(outcome),
        "traceback": outcome.traceback if isinstance(outcome, Failed) else "",
        "attempts": attempt,
        "died_ms": now_ms,
    }
    key = keys.dead_letter(handler, event.id)
    return SetAside(key, event.id, now_ms, keys.DEAD_SECONDS, fields)


def _cause(outcome: Outcome) -> str:
    """Tell for the log what failed and where, without the message, which may quote an event (I9)."""
    if not isinstance(outcome, Failed):
        return type(outcome).__name__.lower()
    kind = outcome.error.partition(":")[0].split()[0] if outcome.error.strip() else outcome.kind
    places = _PLACE.findall(outcome.traceback)
    return f"{kind} at {Path(places[-1][0]).name}:{places[-1][1]}" if places else kind


def _why(outcome: Outcome) -> str:
    if isinstance(outcome, Failed):
        return outcome.error
    return outcome.reason if isinstance(outcome, Again | Rejected) else ""


def _retry(handler: str, event: events.Event, attempt: int, wait: float) -> Later:
    job_id = queues.new_id()
    fields = queues.delivery_job(
        handler,
        [events.encode(event)],
        attempt=attempt,
        status=JobStatus.SCHEDULED,
        description=f"1 event for {handler}, attempt {attempt}",
    )
    return Later(job_id, time.time() + wait, fields)
