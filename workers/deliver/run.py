"""One round of a deliver worker's run: the events of the jobs claimed, and how far each of those jobs is settled.

A run owns its pause state (`probe`) and its pace: how many events have an outcome, and in how many seconds.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Raw, Struct

from shared import events, progress
from workers.deliver.pause_probe import ProbeState
from workers.runtime import outcome as outcomes
from workers.runtime.claim import ClaimedJob
from workers.runtime.outcome import DONE, InternalError, Outcome
from workers.runtime.settlement import Settlement


class _JobProgress(Struct):
    """One job of a run: its number in the run, the indices of its settled events, how many events it has.

    `stored_progress` is how far it is settled in Redis.
    """

    number: int
    claimed: ClaimedJob
    settled: set[int]
    size: int
    stored_progress: str

    @property
    def is_settled(self) -> bool:
        return len(self.settled) == self.size


class EventOutcome(Struct, frozen=True, gc=False):
    """The outcome of the event with this `index` in its job; `position` is None if this run did not call the handler.

    `ended_at` is when it was known, in unix seconds; `call_seconds` how long the call took, None without one.
    For what cannot be read as an event, `event` is None and `encoded` is its JSON.
    """

    position: int | None
    job: _JobProgress
    index: int
    attempt: int
    outcome: Outcome
    event: events.Event | None = None
    ended_at: float = 0.0
    call_seconds: float | None = None
    encoded: Raw = Raw(b"null")


class Run:
    """The events of one run in order, their outcomes, and how far they are settled.

    `job_id` is the running job, which is among the claimed ones in the first round only; `worker` is the name of the
    worker that runs it.
    """

    def __init__(self, claimed_jobs: Sequence[ClaimedJob], *, job_id: str, worker: str) -> None:
        self.job_id = job_id
        self.worker = worker
        # How many workers have died of the job since it last made progress.
        self.deaths = claimed_jobs[0].deaths
        self.probe = ProbeState(is_probe=claimed_jobs[0].is_probe)
        self.started_at = self.settled_at = time.monotonic()
        # How many events have an outcome of this run.
        self.recorded = 0
        self.coalesced_bytes = 0
        # Whether what it delivers is deleted then: no other handler has an event of it.
        self.makes_room = True
        # Whether jobs may have been coalesced that are not part of this run: only the job's next run finds them.
        self.needs_another_run = False
        self.events: list[events.Event] = []
        self.attempts: list[int] = []
        self._origins: list[tuple[_JobProgress, int]] = []
        self._jobs: list[_JobProgress] = []
        # Outcomes that are not settled. First those of events that a worker finished before it died.
        self._unsettled: list[EventOutcome] = []
        self._recorded_positions: set[int] = set()
        self.add(claimed_jobs)

    def add(self, claimed_jobs: Iterable[ClaimedJob]) -> range:
        """Add further jobs to the run; return the positions of their events."""
        first, now = len(self.events), time.time()
        for number, claimed in enumerate(claimed_jobs, start=len(self._jobs)):
            _version, _handler, attempt, encoded = claimed.arguments
            size = claimed.items or len(encoded)
            job = _JobProgress(number, claimed, set(progress.parse(claimed.progress)), size, claimed.progress)
            open_indices = [index for index in range(job.size) if index not in job.settled]
            # A job whose portions are released has no events any more; then all of them are settled.
            if open_indices and len(encoded) != size:
                raise ValueError(f"the job has {len(encoded)} events and was counted as {size}")
            found = _read_events([encoded[index] for index in open_indices])
            for index, event in zip(open_indices, found, strict=True):
                if isinstance(event, InternalError):
                    self._unsettled.append(
                        EventOutcome(None, job, index, attempt, event, encoded=encoded[index], ended_at=now)
                    )
                elif index in claimed.finished:
                    self._unsettled.append(EventOutcome(None, job, index, attempt, DONE, event, ended_at=now))
                else:
                    self.events.append(event)
                    self.attempts.append(attempt)
                    self._origins.append((job, index))
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
        """How long the run takes so far."""
        return time.monotonic() - self.started_at

    @property
    def events_per_second(self) -> float:
        """The run's pace: events with an outcome, per second."""
        return self.recorded / self.seconds

    @property
    def is_settled(self) -> bool:
        """Whether all events of all jobs are settled."""
        return all(job.is_settled for job in self._jobs)

    def is_due(self, settle_seconds: float) -> bool:
        """Return whether the last settlement was at least `settle_seconds` ago."""
        return time.monotonic() - self.settled_at >= settle_seconds

    def record(
        self, ended: Sequence[tuple[int, Outcome]], *, ended_at: float = 0.0, call_seconds: float | None = None
    ) -> None:
        """Record the outcomes of the events at these positions: they ended with one call."""
        origins, attempts, delivered = self._origins, self.attempts, self.events
        for position, outcome in ended:
            job, index = origins[position]
            self._unsettled.append(
                EventOutcome(
                    position, job, index, attempts[position], outcome, delivered[position], ended_at, call_seconds
                )
            )
        self._recorded_positions.update([position for position, _ in ended])
        self.recorded += len(ended)

    def without_outcome(self, positions: Iterable[int]) -> list[int]:
        """Return those of the positions whose events have no outcome yet."""
        return [position for position in positions if position not in self._recorded_positions]

    def traced_events(self, positions: Iterable[int]) -> Iterator[tuple[events.Event, int, str]]:
        """Yield each event with its attempt and the traceparent that it was enqueued with, "" if it has none."""
        for position in positions:
            job, index = self._origins[position]
            trace = events.read_trace(job.claimed.arguments[3][index])
            yield self.events[position], self.attempts[position], trace

    def origins(self, positions: Sequence[int]) -> list[tuple[int, int]]:
        """Return the number of each event's job in the run, and the event's index in that job."""
        return [(job.number, index) for job, index in map(self._origins.__getitem__, positions)]

    def pop_unsettled(self) -> list[EventOutcome]:
        """Return the outcomes since the last call, each once."""
        ended, self._unsettled = self._unsettled, []
        return ended

    def settlements(self, ended: Iterable[EventOutcome]) -> list[Settlement]:
        """Return how these outcomes settle their jobs. Changes nothing: see `mark_settled`."""
        indices: dict[int, set[int]] = {}
        for one in ended:
            indices.setdefault(one.job.number, set()).add(one.index)
        found: list[Settlement] = []
        for number, those in indices.items():
            job = self._jobs[number]
            settled = job.settled | those
            now = progress.to_text(settled)
            found.append(Settlement(job.claimed, job.stored_progress, now, ends=len(settled) == job.size))
        return found

    def mark_settled(self, ended: Iterable[EventOutcome]) -> None:
        """Mark the events of these outcomes as settled."""
        jobs: dict[int, _JobProgress] = {}
        for one in ended:
            one.job.settled.add(one.index)
            jobs[one.job.number] = one.job
        for job in jobs.values():
            job.stored_progress = progress.to_text(job.settled)


def _read_events(encoded: Sequence[Raw]) -> Sequence[events.Event | InternalError]:
    """Return the events; in place of one that cannot be read, the failure."""
    try:
        return events.decode_each(encoded)
    except Exception:  # noqa: BLE001 # one of them: the loop finds out which one
        return [_read_event(one) for one in encoded]


def _read_event(encoded: Raw) -> events.Event | InternalError:
    try:
        (event,) = events.decode_each([encoded])
    except Exception as exc:  # noqa: BLE001 # whatever it is, nobody can work on this event
        return outcomes.internal_error(exc)
    return event
