"""One round of a deliver worker's run: the events of the jobs claimed, and how far each of those jobs is settled.

A round owns its pause state (`probe`) and its pace: how many events have an outcome, and in how many seconds.
"""

import itertools
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec import Raw, Struct

from shared import events, progress, queues, stored_events
from shared.events import Event
from workers.deliver.pause_probe import ProbeState
from workers.runtime import outcome as outcomes
from workers.runtime.claim import ClaimedJob
from workers.runtime.outcome import DONE, InternalError, Outcome
from workers.runtime.settlement import Settlement


class _JobProgress(Struct):
    """One job of a round: its number there, the number of its attempt, how many events it has, which are settled.

    The round's events from the position `first` on are those at `indices` in the job, in ascending order.
    `stored_progress` is how far it is settled in Redis.
    """

    number: int
    claimed: ClaimedJob
    attempt: int
    size: int
    settled: set[int]
    stored_progress: str
    first: int = 0
    indices: Sequence[int] = ()

    @property
    def is_settled(self) -> bool:
        return len(self.settled) == self.size


class JobOutcome(Struct, frozen=True, gc=False):
    """The outcome of events of one job: those that ended with one call, by their indices in the job.

    `ended_at` is when it was known, in unix seconds; `call_seconds` how long the call took, None without one.
    What cannot be read as an event is alone in its outcome: `events` is empty then, and `encoded` is its JSON.
    """

    job: _JobProgress
    indices: Sequence[int]
    outcome: Outcome
    events: Sequence[Event]
    ended_at: float = 0.0
    call_seconds: float | None = None
    encoded: Raw = Raw(b"null")

    @property
    def attempt(self) -> int:
        """The number of the attempt."""
        return self.job.attempt

    @property
    def event(self) -> Event | None:
        """The event of the outcome of one; None for what cannot be read."""
        return self.events[0] if self.events else None

    def split(self) -> list["JobOutcome"]:
        """Return the outcome of each event alone."""
        if len(self.indices) == 1:
            return [self]
        return [
            msgspec.structs.replace(self, indices=(index,), events=(event,))
            for index, event in zip(self.indices, self.events, strict=True)
        ]


class JobSettlement(Settlement, frozen=True):
    """The settlement of events of one job; `settled` are the indices of all that are settled by then."""

    job: _JobProgress
    settled: set[int]


class Round:
    """The events of one round in order, their outcomes, and how far they are settled.

    `job_id` is the job of the run, which is among those claimed in its first round only; `worker` is the name of the
    worker that runs it.
    """

    def __init__(self, claimed_jobs: Sequence[ClaimedJob], *, job_id: str, worker: str) -> None:
        self.job_id = job_id
        self.worker = worker
        # How many workers have died of the job since it last made progress.
        self.deaths = claimed_jobs[0].deaths
        self.probe = ProbeState(is_probe=claimed_jobs[0].is_probe)
        self.started_at = self.settled_at = time.monotonic()
        # How many events have an outcome of this round.
        self.recorded = 0
        self.coalesced_bytes = 0
        # Whether what it delivers is deleted then: no other handler has an event of it.
        self.makes_room = True
        # Whether jobs may have been coalesced that are not part of this round: only the job's next run finds them.
        self.needs_another_run = False
        self.events: list[Event] = []
        self._origins: list[_JobProgress] = []
        self._jobs: list[_JobProgress] = []
        # Outcomes that are not settled. First those of events that a worker finished before it died.
        self._unsettled: list[JobOutcome] = []
        self._recorded_positions: list[Sequence[int]] = []
        self.add(claimed_jobs)

    def add(self, claimed_jobs: Iterable[ClaimedJob]) -> range:
        """Add further jobs to the round; return the positions of their events."""
        first, now = len(self.events), time.time()
        for number, claimed in enumerate(claimed_jobs, start=len(self._jobs)):
            _version, _handler, attempt, encoded = claimed.arguments
            size = claimed.items or len(encoded)
            job = _JobProgress(
                number,
                claimed,
                attempt,
                size,
                set(progress.parse(claimed.progress)),
                claimed.progress,
                len(self.events),
            )
            indices: Sequence[int] = range(size)
            if job.settled:
                indices = [index for index in indices if index not in job.settled]
            # A job whose portions are released has no events any more; then all of them are settled.
            if indices and len(encoded) != size:
                raise ValueError(f"the job has {len(encoded)} events and was counted as {size}")
            indices, found, failed = _read_events(encoded, indices)
            for index, failure in failed:
                self._unsettled.append(JobOutcome(job, (index,), failure, (), now, encoded=encoded[index]))
            if claimed.finished:
                known = dict(zip(indices, found, strict=True))
                done = [index for index in known if index in claimed.finished]
                if done:
                    self._unsettled.append(JobOutcome(job, done, DONE, [known.pop(index) for index in done], now))
                indices, found = list(known), list(known.values())
            job.indices = indices
            self.events += found
            self._origins += [job] * len(found)
            self._jobs.append(job)
            self.makes_room = self.makes_room and not claimed.has_portions
            self.coalesced_bytes += claimed.size_bytes
        return range(first, len(self.events))

    @property
    def job_ids(self) -> list[str]:
        """The ids of the jobs, by their numbers."""
        return [job.claimed.job_id for job in self._jobs]

    @property
    def seconds(self) -> float:
        """How long the round takes so far."""
        return time.monotonic() - self.started_at

    @property
    def events_per_second(self) -> float:
        """The round's pace: events with an outcome, per second."""
        return self.recorded / self.seconds

    @property
    def is_settled(self) -> bool:
        """Whether all events of all jobs are settled."""
        return all(job.is_settled for job in self._jobs)

    def is_due(self, settle_seconds: float) -> bool:
        """Return whether the last settlement was at least `settle_seconds` ago."""
        return time.monotonic() - self.settled_at >= settle_seconds

    def attempt(self, position: int) -> int:
        """Return the number of the attempt at the event at this position."""
        return self._origins[position].attempt

    def positions_by_attempt(self, tried: int) -> tuple[list[int], list[int]]:
        """Return the positions from `tried` on, of the events on their first attempt and of the others."""
        fresh: list[int] = []
        later: list[int] = []
        for job in self._jobs:
            those = fresh if job.attempt == queues.FIRST_ATTEMPT else later
            those += range(max(job.first, tried), job.first + len(job.indices))
        return fresh, later

    def record(
        self, positions: Sequence[int], outcome: Outcome, *, ended_at: float = 0.0, call_seconds: float | None = None
    ) -> list[JobOutcome]:
        """Record the outcome with which one call ended for the events at these positions, in ascending order.

        Return it for each job that the events belong to.
        """
        recorded: list[JobOutcome] = []
        start = 0
        while start < len(positions):
            job = self._origins[positions[start]]
            first, end = job.first, start + 1
            if end < len(positions):
                end = bisect_left(positions, first + len(job.indices), end)
            indices = [job.indices[position - first] for position in positions[start:end]]
            called = [self.events[position] for position in positions[start:end]]
            recorded.append(JobOutcome(job, indices, outcome, called, ended_at, call_seconds))
            start = end
        self._unsettled += recorded
        self._recorded_positions.append(positions)
        self.recorded += len(positions)
        return recorded

    def without_outcome(self, positions: Iterable[int]) -> list[int]:
        """Return those of the positions whose events have no outcome yet."""
        recorded = set(itertools.chain.from_iterable(self._recorded_positions))
        return [position for position in positions if position not in recorded]

    def traced_events(self, positions: Iterable[int]) -> Iterator[tuple[Event, int, str]]:
        """Yield each event with its attempt and the traceparent that it was enqueued with, "" if it has none."""
        for position in positions:
            job = self._origins[position]
            trace = events.read_trace(job.claimed.arguments[3][job.indices[position - job.first]])
            yield self.events[position], job.attempt, trace

    def pop_unsettled(self) -> list[JobOutcome]:
        """Return the outcomes since the last call, each once."""
        ended, self._unsettled = self._unsettled, []
        return ended

    def settlements(self, ended: Iterable[JobOutcome]) -> list[JobSettlement]:
        """Return how these outcomes settle their jobs. Change nothing: see `mark_settled`."""
        indices: dict[int, set[int]] = {}
        for one in ended:
            indices.setdefault(one.job.number, set()).update(one.indices)
        found: list[JobSettlement] = []
        for number, those in indices.items():
            job = self._jobs[number]
            settled = job.settled | those
            found.append(
                JobSettlement(
                    job.claimed,
                    job.stored_progress,
                    progress.to_text(settled),
                    ends=len(settled) == job.size,
                    job=job,
                    settled=settled,
                )
            )
        return found

    def mark_settled(self, settlements: Iterable[JobSettlement]) -> None:
        """Take over settlements that Redis has."""
        for one in settlements:
            one.job.settled, one.job.stored_progress = one.settled, one.end


def _read_events(
    encoded: Sequence[Raw], indices: Sequence[int]
) -> tuple[Sequence[int], list[Event], list[tuple[int, InternalError]]]:
    """Return the indices of the events that can be read, and the events; and the indices of the others, with why."""
    try:
        return indices, stored_events.decode(encoded, indices), []
    except Exception:  # noqa: BLE001 # of one of them: so each is read alone
        found = [(index, _read_event(encoded[index])) for index in indices]
    failed = [(index, event) for index, event in found if isinstance(event, InternalError)]
    readable = [(index, event) for index, event in found if not isinstance(event, InternalError)]
    return [index for index, _ in readable], [event for _, event in readable], failed


def _read_event(encoded: Raw) -> Event | InternalError:
    try:
        (event,) = events.decode_each([encoded])
    except Exception as exc:  # noqa: BLE001 # whatever it is, nobody can work on this event
        return outcomes.internal_error(exc)
    return event
