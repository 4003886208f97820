"""One run of a deliver worker: the events of the jobs that it took along, and how far each of those jobs is settled."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from shared import events, progress
from workers.runtime import outcome as outcomes
from workers.runtime.outcome import DONE, Outcome, Unworkable
from workers.runtime.settlement import Portion, Settlement


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


class Ended(Struct, frozen=True, gc=False):
    """What became of an event; `position` is None where the handler was not called by this run.

    Where it cannot be read, `event` is None, and `array` is what a JSON decoder made of it.
    """

    position: int | None
    share: _Share
    place: int
    attempt: int
    outcome: Outcome
    event: events.Event | None = None
    array: Any = None


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
        # What became of events, and is not settled. First what was finished in the hands of a worker that died.
        self._ended: list[Ended] = []
        self._has_outcome: set[int] = set()
        self.add(portions)

    def add(self, portions: Iterable[Portion]) -> range:
        """Take further jobs into the run; give the positions of their events."""
        first = len(self.events)
        for number, portion in enumerate(portions, start=len(self._shares)):
            _version, _handler, attempt, encoded = portion.arguments
            if portion.items and len(encoded) != portion.items:
                raise ValueError(f"the job has {len(encoded)} events and was counted as {portion.items}")
            share = _Share(number, portion, set(progress.read(portion.progress)), len(encoded), portion.progress)
            places = [place for place in range(share.size) if place not in share.settled]
            for place, event in zip(places, _read([encoded[place] for place in places]), strict=True):
                if isinstance(event, Unworkable):
                    self._ended.append(Ended(None, share, place, attempt, event, array=encoded[place]))
                elif place in portion.finished:
                    self._ended.append(Ended(None, share, place, attempt, DONE, event))
                else:
                    self.events.append(event)
                    self.attempts.append(attempt)
                    self._origins.append((share, place))
            self._shares.append(share)
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
        share, place = self._origins[position]
        self._ended.append(Ended(position, share, place, self.attempts[position], outcome, self.events[position]))
        self._has_outcome.add(position)
        self.ended += 1

    def without_outcome(self, positions: Iterable[int]) -> list[int]:
        """Return those of these positions of whose events nobody knows what became of them."""
        return [position for position in positions if position not in self._has_outcome]

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

    def ended_since(self) -> list[Ended]:
        """Return what became of events since the last time, once."""
        ended, self._ended = self._ended, []
        return ended

    def settlements(self, ended: Iterable[Ended]) -> list[Settlement]:
        """Return how these settle the jobs that brought them. Changes nothing: see `settled`."""
        places: dict[int, set[int]] = {}
        for one in ended:
            places.setdefault(one.share.number, set()).add(one.place)
        found: list[Settlement] = []
        for number, those in places.items():
            share = self._shares[number]
            settled = share.settled | those
            now = progress.write(settled)
            found.append(Settlement(share.portion, share.written, now, ends=len(settled) == share.size))
        return found

    def settled(self, ended: Iterable[Ended]) -> None:
        """Note that these are settled."""
        shares: dict[int, _Share] = {}
        for one in ended:
            one.share.settled.add(one.place)
            shares[one.share.number] = one.share
        for share in shares.values():
            share.written = progress.write(share.settled)


def _read(arrays: Sequence[Any]) -> Sequence[events.Event | Unworkable]:
    """Return the events; for each that cannot be read, why."""
    try:
        return events.convert(arrays)
    except Exception:  # noqa: BLE001 # one of them: which one, the loop shows
        return [_read_one(array) for array in arrays]


def _read_one(array: Any) -> events.Event | Unworkable:
    try:
        (event,) = events.convert([array])
    except Exception as exc:  # noqa: BLE001 # it cannot be worked on, whatever it is
        return outcomes.unworkable(exc)
    return event
