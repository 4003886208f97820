"""One run of a deliver worker: the events of the jobs that it took along, and how far each of those jobs is settled."""

import time
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from shared import events, progress
from workers.calling.outcomes import DONE, Outcome
from workers.running.settlements import Portion, Settlement


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


class Run:
    """The events of one run in order, what became of them, and how far all of them are settled.

    The first portion is the running job's own; `worker` is who runs it, by name.
    """

    def __init__(self, portions: Sequence[Portion], *, worker: str) -> None:
        self.job_id = portions[0].job_id
        self.worker = worker
        self.began = self.settled_at = time.monotonic()
        self.taken_bytes = 0
        # Whether jobs may have been taken that this run does not go on with; only its own job's next run finds them.
        self.may_have_more = False
        self.events: list[events.Event] = []
        self.attempts: list[int] = []
        self.ended = 0
        self._origins: list[tuple[_Share, int]] = []
        self._shares: list[_Share] = []
        # Those that may have come further since the last settlement.
        self._changed: dict[int, _Share] = {}
        self._outcomes: dict[int, Outcome] = {}
        # What was finished in the hands of a worker that died goes into the first settlement.
        self._finished: list[tuple[events.Event, int, Outcome]] = []
        self.add(portions)

    def add(self, portions: Iterable[Portion]) -> range:
        """Take further jobs into the run; give the positions of their events."""
        first = len(self.events)
        for number, portion in enumerate(portions, start=len(self._shares)):
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
            self._changed[number] = share
            self.taken_bytes += portion.size_bytes
        return range(first, len(self.events))

    @property
    def job_ids(self) -> list[str]:
        """The jobs, by their numbers."""
        return [share.portion.job_id for share in self._shares]

    @property
    def is_settled(self) -> bool:
        """Whether all of it is."""
        return all(share.is_settled for share in self._shares)

    def enter(self, position: int, outcome: Outcome) -> None:
        """Note what became of an event."""
        self._outcomes[position] = outcome
        self.ended += 1

    def traced(self, positions: Iterable[int]) -> Iterator[tuple[events.Event, int, str]]:
        """Give each event with its attempt and with the traceparent that came along, "" where none did."""
        for position in positions:
            share, place = self._origins[position]
            trace = events.trace_of(share.portion.arguments[3][place])
            yield self.events[position], self.attempts[position], trace

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
            self._changed[share.number] = share
        self._outcomes.clear()
        changed, self._changed = self._changed, {}
        settlements: list[Settlement] = []
        for share in changed.values():
            now = progress.write(share.settled)
            if now != share.written:
                settlements.append(Settlement(share.portion, share.written, now, ends=share.is_settled))
                share.written = now
        return settlements, finished
