"""The sum that has to come out: what was received is somewhere, once.

    received = unique + duplicate + quarantined + dropped + waiting to be expanded   for reports and replies together
    queued   = delivered + dead + dropped + waiting to be delivered                  for each handler

`quarantined` and `dead` count failures that were neither replayed nor dropped: by an operator, by age, or for want of
room (`workers.failures.retention`). The left sides are counters that change in the same atomic steps as what they
count; what waits is counted anew, from the jobs themselves. The two are read one after the other, so the sum is exact
only if nothing moved meanwhile.
"""

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys, progress, queues
from shared.errors import CallbacksError

Kind: TypeAlias = keys.CountedKind

_KINDS: Final[tuple[Kind, ...]] = ("report", "reply", "unknown")
_JOBS_PER_READ: Final = 1000
_MAX_TRIES: Final = 5


class TooManyJobs(CallbacksError):
    """More jobs wait than may be read here. Run `callbacks audit`, which reads them all."""


class RecordTotals(Struct, frozen=True, kw_only=True):
    """What became of the records of one kind on their way to the handlers."""

    received: int
    unique: int
    duplicate: int
    quarantined: int
    dropped: int


class HandlerTotals(Struct, frozen=True, kw_only=True):
    """What became of events at one handler; `waiting` of them are in its queue, running, or to be tried again."""

    handler: str
    queued: int
    filtered: int
    delivered: int
    dead: int
    dropped: int
    waiting: int

    @property
    def missing(self) -> int:
        """How many events are nowhere; below zero: how many are there twice. Zero is right."""
        return self.queued - self.delivered - self.dead - self.dropped - self.waiting


class Audit(Struct, frozen=True, kw_only=True):
    """The whole sum."""

    records: dict[Kind, RecordTotals]
    waiting: int
    moving: bool
    """Whether something changed while it was added up, so that the sum need not come out."""
    handlers: tuple[HandlerTotals, ...]

    @property
    def received(self) -> int:
        """Records received, of every kind."""
        return sum(kind.received for kind in self.records.values())

    @property
    def unique(self) -> int:
        """Events: records seen for the first time."""
        return sum(kind.unique for kind in self.records.values())

    @property
    def duplicate(self) -> int:
        """Records seen before."""
        return sum(kind.duplicate for kind in self.records.values())

    @property
    def quarantined(self) -> int:
        """Records set aside because they could not be read."""
        return sum(kind.quarantined for kind in self.records.values())

    @property
    def dropped(self) -> int:
        """Records dropped from the quarantine: by an operator, by their age, or for want of room."""
        return sum(kind.dropped for kind in self.records.values())

    @property
    def missing(self) -> int:
        """How many records are nowhere; below zero: how many are there twice. Zero is right."""
        return self.received - self.unique - self.duplicate - self.quarantined - self.dropped - self.waiting

    @property
    def pending(self) -> int:
        """What still moves: records to be expanded and events to be delivered."""
        return self.waiting + sum(handler.waiting for handler in self.handlers)

    @property
    def balances(self) -> bool:
        """Whether nothing is missing and nothing is there twice."""
        return self.missing == 0 and all(handler.missing == 0 for handler in self.handlers)

    def as_json(self) -> dict[str, Any]:
        """Give the audit as JSON carries it: the figures, what is missing, and whether it balances."""
        return {
            "balances": self.balances,
            "moving": self.moving,
            "pending": self.pending,
            "missing": self.missing,
            "waiting": self.waiting,
            "records": {kind: msgspec.structs.asdict(totals) for kind, totals in self.records.items()},
            "handlers": [msgspec.structs.asdict(handler) | {"missing": handler.missing} for handler in self.handlers],
        }


class _JobLimit:
    """How many jobs may still be read; None: any number."""

    def __init__(self, max_jobs: int | None) -> None:
        self._left = max_jobs

    @property
    def last_index(self) -> int:
        """The last place of a list to be read: with it, one more than is allowed. -1: the list's own last."""
        return -1 if self._left is None else self._left

    def check(self, jobs: int) -> None:
        """Raise TooManyJobs if so many are not allowed."""
        if self._left is not None and jobs > self._left:
            raise TooManyJobs

    def use(self, jobs: int) -> None:
        """Count `jobs` as read. Raise TooManyJobs if so many are not allowed."""
        self.check(jobs)
        if self._left is not None:
            self._left -= jobs


def run(connection: redis.Redis, *, max_jobs: int | None = None) -> Audit:
    """Add up what stands in Redis now, anew a few times if it moves meanwhile. Raises redis.RedisError.

    With `max_jobs` no more jobs than that are read, all tries together. Raises TooManyJobs if one try needs more.
    """
    job_limit = _JobLimit(max_jobs)
    sums = _run_once(connection, job_limit)
    for _ in range(_MAX_TRIES - 1):
        if not sums.moving:
            break
        try:
            sums = _run_once(connection, job_limit)
        except TooManyJobs:
            break
    return sums


def _run_once(connection: redis.Redis, job_limit: _JobLimit) -> Audit:
    before = _read_counters(connection)
    sums = _add_up(connection, before, job_limit)
    return msgspec.structs.replace(sums, moving=_read_counters(connection) != before)


def _read_counters(connection: redis.Redis) -> dict[str, int]:
    return {as_text(name): int(number) for name, number in connection.hgetall(keys.COUNTS).items()}


def _add_up(connection: redis.Redis, counts: dict[str, int], job_limit: _JobLimit) -> Audit:
    return Audit(
        records={
            kind: RecordTotals(
                received=counts.get(keys.counter(kind, "received"), 0),
                unique=counts.get(keys.counter(kind, "unique"), 0),
                duplicate=counts.get(keys.counter(kind, "duplicate"), 0),
                quarantined=counts.get(keys.counter(kind, "quarantined"), 0),
                dropped=counts.get(keys.counter(kind, "dropped"), 0),
            )
            for kind in _KINDS
        },
        waiting=_count_waiting(connection, queues.EXPAND, job_limit),
        moving=False,
        handlers=tuple(
            HandlerTotals(
                handler=handler,
                queued=_total(counts, handler, "queued"),
                filtered=_total(counts, handler, "filtered"),
                delivered=_total(counts, handler, "delivered"),
                dead=_total(counts, handler, "dead"),
                dropped=_total(counts, handler, "dropped"),
                waiting=_count_waiting(connection, queues.delivery_queue(handler), job_limit),
            )
            for handler in keys.handler_names(counts)
        ),
    )


def _total(counts: dict[str, int], handler: str, outcome: keys.DeliveryOutcome) -> int:
    return sum(counts.get(keys.handler_counter(handler, kind, outcome), 0) for kind in _KINDS)


def _count_waiting(connection: redis.Redis, queue: str, job_limit: _JobLimit) -> int:
    """Count what the jobs of a queue still hold, wherever RQ or a running job has them."""
    try:
        *lists, started = _read_job_ids(connection, queue, at_once=True, last_index=job_limit.last_index)
    except redis.OutOfMemoryError:
        # Then Redis takes no transaction, not even to read; what moves in this moment may be counted wrongly.
        *lists, started = _read_job_ids(connection, queue, at_once=False, last_index=job_limit.last_index)
    running = {member.decode().partition(":")[0] for member in started}
    found = {job_id.decode() for jobs in lists for job_id in jobs} | running
    job_limit.check(len(found))
    found = with_coalesced(connection, found, last_index=job_limit.last_index)
    job_limit.use(len(found))
    return count_unsettled(connection, found)


def _read_job_ids(connection: redis.Redis, queue: str, *, at_once: bool, last_index: int) -> list[list[bytes]]:
    with connection.pipeline(transaction=at_once) as pipe:
        pipe.lrange(keys.rq_queue(queue), 0, last_index)
        pipe.lrange(keys.rq_intermediate(queue), 0, last_index)
        pipe.zrange(keys.rq_scheduled(queue), 0, last_index)
        pipe.zrange(keys.rq_failed(queue), 0, last_index)
        pipe.zrange(keys.rq_started(queue), 0, last_index)
        found: list[list[bytes]] = pipe.execute()
    return found


def with_coalesced(connection: redis.Redis, job_ids: Iterable[str], *, last_index: int = -1) -> set[str]:
    """Give these jobs and those that they took along, of each up to the place `last_index` of its list."""
    ids = sorted(job_ids)
    found = set(ids)
    for first in range(0, len(ids), _JOBS_PER_READ):
        with connection.pipeline(transaction=False) as pipe:
            for job_id in ids[first : first + _JOBS_PER_READ]:
                pipe.lrange(keys.coalesced(job_id), 0, last_index)
            for jobs in pipe.execute():
                found.update(job_id.decode() for job_id in jobs)
    return found


def count_unsettled(connection: redis.Redis, job_ids: Iterable[str]) -> int:
    """Count what these jobs still hold: records of callbacks to be expanded, or events to be delivered."""
    ids = sorted(job_ids)
    total = 0
    for first in range(0, len(ids), _JOBS_PER_READ):
        with connection.pipeline(transaction=False) as pipe:
            for job_id in ids[first : first + _JOBS_PER_READ]:
                pipe.hmget(keys.job(job_id), "items", "progress")
            total += sum(
                int(items or 0) - progress.count(as_text(settled or progress.NOTHING))
                for items, settled in pipe.execute()
            )
    return total
