"""One run of a deliver worker: the events of the jobs that it took along, and how far each of those jobs is settled."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from shared import events, progress
from workers.runtime import outcome as outcomes
from workers.runtime.outcome import DONE, InternalError, Outcome
from workers.runtime.settlement import ClaimedJob, Settlement


class _JobProgress(Struct):
    """One job's part of a run: its number there, its settled items' places, how many it has, its progress so far."""

    number: int
    claimed: ClaimedJob
    settled: set[int]
    size: int
    stored_progress: str

    @property
    def is_settled(self) -> bool:
        return len(self.settled) == self.size


class EventOutcome(Struct, frozen=True, gc=False):
    """What became of an event; `position` is None where the handler was not called by this run.

    Where it cannot be read, `event` is None, and `decoded` is what a JSON decoder made of it.
    """

    position: int | None
    job: _JobProgress
    place: int
    attempt: int
    outcome: Outcome
    event: events.Event | None = None
    decoded: Any = None


class Run:
    """The events of one run in order, what became of them, and how far all of them are settled.

    The first portion is the running job's own; `worker` is who runs it, by name.
    """

    def __init__(self, claimed_jobs: Sequence[ClaimedJob], *, worker: str) -> None:
        self.job_id = claimed_jobs[0].job_id
        self.worker = worker
        self.started_at = self.settled_at = time.monotonic()
        self.coalesced_bytes = 0
        # Whether jobs may have been taken that this run does not go on with; only its own job's next run finds them.
        self.needs_another_run = False
        self.events: list[events.Event] = []
        self.attempts: list[int] = []
        self.recorded = 0
        self._origins: list[tuple[_JobProgress, int]] = []
        self._jobs: list[_JobProgress] = []
        # What became of events, and is not settled. First what was finished in the hands of a worker that died.
        self._unsettled: list[EventOutcome] = []
        self._recorded_positions: set[int] = set()
        self.add(claimed_jobs)

    def add(self, claimed_jobs: Iterable[ClaimedJob]) -> range:
        """Take further jobs into the run; give the positions of their events."""
        first = len(self.events)
        for number, claimed in enumerate(claimed_jobs, start=len(self._jobs)):
            _version, _handler, attempt, encoded = claimed.arguments
            if claimed.items and len(encoded) != claimed.items:
                raise ValueError(f"the job has {len(encoded)} events and was counted as {claimed.items}")
            job = _JobProgress(number, claimed, set(progress.parse(claimed.progress)), len(encoded), claimed.progress)
            places = [place for place in range(job.size) if place not in job.settled]
            for place, event in zip(places, _read_events([encoded[place] for place in places]), strict=True):
                if isinstance(event, InternalError):
                    self._unsettled.append(EventOutcome(None, job, place, attempt, event, decoded=encoded[place]))
                elif place in claimed.finished:
                    self._unsettled.append(EventOutcome(None, job, place, attempt, DONE, event))
                else:
                    self.events.append(event)
                    self.attempts.append(attempt)
                    self._origins.append((job, place))
            self._jobs.append(job)
            self.coalesced_bytes += claimed.size_bytes
        return range(first, len(self.events))

    @property
    def job_ids(self) -> list[str]:
        """The jobs, by their numbers."""
        return [job.claimed.job_id for job in self._jobs]

    @property
    def is_settled(self) -> bool:
        """Whether all of it is."""
        return all(job.is_settled for job in self._jobs)

    def record(self, position: int, outcome: Outcome) -> None:
        """Note what became of an event."""
        job, place = self._origins[position]
        self._unsettled.append(
            EventOutcome(position, job, place, self.attempts[position], outcome, self.events[position])
        )
        self._recorded_positions.add(position)
        self.recorded += 1

    def without_outcome(self, positions: Iterable[int]) -> list[int]:
        """Return those of these positions of whose events nobody knows what became of them."""
        return [position for position in positions if position not in self._recorded_positions]

    def traced_events(self, positions: Iterable[int]) -> Iterator[tuple[events.Event, int, str]]:
        """Give each event with its attempt and with the traceparent that came along, "" where none did."""
        for position in positions:
            job, place = self._origins[position]
            trace = events.read_trace(job.claimed.arguments[3][place])
            yield self.events[position], self.attempts[position], trace

    def origin(self, position: int) -> tuple[int, int]:
        """Give the number of the job that brought an event, and the event's place in it."""
        job, place = self._origins[position]
        return job.number, place

    def pop_unsettled(self) -> list[EventOutcome]:
        """Return what became of events since the last time, once."""
        ended, self._unsettled = self._unsettled, []
        return ended

    def settlements(self, ended: Iterable[EventOutcome]) -> list[Settlement]:
        """Return how these settle the jobs that brought them. Changes nothing: see `mark_settled`."""
        places: dict[int, set[int]] = {}
        for one in ended:
            places.setdefault(one.job.number, set()).add(one.place)
        found: list[Settlement] = []
        for number, those in places.items():
            job = self._jobs[number]
            settled = job.settled | those
            now = progress.to_text(settled)
            found.append(Settlement(job.claimed, job.stored_progress, now, ends=len(settled) == job.size))
        return found

    def mark_settled(self, ended: Iterable[EventOutcome]) -> None:
        """Note that these are settled."""
        jobs: dict[int, _JobProgress] = {}
        for one in ended:
            one.job.settled.add(one.place)
            jobs[one.job.number] = one.job
        for job in jobs.values():
            job.stored_progress = progress.to_text(job.settled)


def _read_events(arrays: Sequence[Any]) -> Sequence[events.Event | InternalError]:
    """Return the events; for each that cannot be read, why."""
    try:
        return events.from_arrays(arrays)
    except Exception:  # noqa: BLE001 # one of them: which one, the loop shows
        return [_read_event(decoded) for decoded in arrays]


def _read_event(decoded: Any) -> events.Event | InternalError:
    try:
        (event,) = events.from_arrays([decoded])
    except Exception as exc:  # noqa: BLE001 # it cannot be worked on, whatever it is
        return outcomes.internal_error(exc)
    return event
