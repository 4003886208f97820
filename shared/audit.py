"""The audit: everything received is in exactly one place.

    received = unique + duplicate + quarantined + dropped + forgotten + waiting to be expanded   for all records
    queued   = delivered + dead + dropped + forgotten + waiting to be delivered                for each handler

`quarantined` and `dead` count failures that were neither replayed nor dropped; a failure is dropped by an operator, at
its maximum age, or for lack of room (`workers.failures.retention`). What `callbacks forget` erased before it was
delivered is `forgotten`. The counters change in the same atomic steps as what they count; what waits is counted from
the jobs themselves. The two are read one after the other, so the sum is exact only if nothing moved meanwhile.
A counter that changed shows most movements. An event that is tried again and a job that a paused run returns change
none: they show in the ids of the jobs, which are read a second time if the sum does not come out.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec
import redis
from msgspec import Struct
from rq.utils import as_text

from shared import keys, queue_jobs, queues
from shared.errors import CallbacksError

Kind: TypeAlias = keys.CountedKind

KINDS: Final[tuple[Kind, ...]] = ("report", "reply", "unknown")
# An event with one of them no longer waits for its handler.
SETTLED_OUTCOMES: Final[tuple[keys.DeliveryOutcome, ...]] = ("delivered", "dead", "dropped", "forgotten")
_MAX_TRIES: Final = 5


class TooManyJobs(CallbacksError):
    """Too many jobs wait to audit them here. Run `callbacks audit`, which reads them all."""


class RecordTotals(Struct, frozen=True, kw_only=True):
    """How many records of one kind were received, and what became of them before the handlers."""

    received: int
    unique: int
    duplicate: int
    quarantined: int
    dropped: int
    forgotten: int = 0


class HandlerTotals(Struct, frozen=True, kw_only=True):
    """What became of the events of one handler; `waiting` of them are in its queue, running, or scheduled."""

    handler: str
    queued: int
    filtered: int
    delivered: int
    dead: int
    dropped: int
    forgotten: int = 0
    waiting: int

    @property
    def missing(self) -> int:
        """How many events are missing; below zero, how many exist twice. Zero is right."""
        return self.queued - self.delivered - self.dead - self.dropped - self.forgotten - self.waiting


class Audit(Struct, frozen=True, kw_only=True):
    """The whole sum."""

    records: dict[Kind, RecordTotals]
    waiting: int
    moving: bool
    """Whether something changed during the audit, so that it need not balance."""
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
        """Records in the quarantine, because they could not be read."""
        return sum(kind.quarantined for kind in self.records.values())

    @property
    def dropped(self) -> int:
        """Records dropped from the quarantine: by an operator, at their maximum age, or for lack of room."""
        return sum(kind.dropped for kind in self.records.values())

    @property
    def forgotten(self) -> int:
        """Records erased by `callbacks forget` before they became events, or from the quarantine."""
        return sum(kind.forgotten for kind in self.records.values())

    @property
    def missing(self) -> int:
        """How many records are missing; below zero, how many exist twice. Zero is right."""
        after = self.unique + self.duplicate + self.quarantined + self.dropped + self.forgotten
        return self.received - after - self.waiting

    @property
    def pending(self) -> int:
        """Records waiting to be expanded and events waiting to be delivered."""
        return self.waiting + sum(handler.waiting for handler in self.handlers)

    @property
    def balances(self) -> bool:
        """Whether nothing is missing and nothing exists twice."""
        return self.missing == 0 and all(handler.missing == 0 for handler in self.handlers)

    def as_json(self) -> dict[str, Any]:
        """Return the audit as it is written in JSON: the totals, what is missing, and whether it balances."""
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
    """How many jobs may still be read; None means any number."""

    def __init__(self, max_jobs: int | None) -> None:
        self._left = max_jobs

    @property
    def last_index(self) -> int:
        """The last position to read of a list, so that one job more than allowed is read; -1 means all."""
        return -1 if self._left is None else self._left

    def check(self, jobs: int) -> None:
        """Raise TooManyJobs if `jobs` more are not allowed."""
        if self._left is not None and jobs > self._left:
            raise TooManyJobs

    def use(self, jobs: int) -> None:
        """Count `jobs` as read. Raise TooManyJobs if that is more than allowed."""
        self.check(jobs)
        if self._left is not None:
            self._left -= jobs


def run(connection: redis.Redis, *, max_jobs: int | None = None) -> Audit:
    """Return the audit of what is in Redis now, repeated a few times if something moves. Raise redis.RedisError.

    All tries together read at most `max_jobs` jobs. Raise TooManyJobs if one try needs more.
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
    counts = _read_counters(connection)
    jobs: dict[str, set[str]] = {}
    waiting: dict[str, int] = {}
    for queue in (queues.EXPAND, *map(queues.delivery_queue, keys.handler_names(counts))):
        jobs[queue] = _list_jobs(connection, queue, job_limit)
        waiting[queue] = queue_jobs.count_unsettled(connection, jobs[queue])
    sums = _add_up(counts, waiting)
    moving = _read_counters(connection) != counts or (not sums.balances and _have_moved(connection, jobs))
    return msgspec.structs.replace(sums, moving=moving)


def _read_counters(connection: redis.Redis) -> dict[str, int]:
    return {as_text(name): int(number) for name, number in connection.hgetall(keys.COUNTS).items()}


def _add_up(counts: dict[str, int], waiting: Mapping[str, int]) -> Audit:
    return Audit(
        records={
            kind: RecordTotals(
                received=counts.get(keys.counter(kind, "received"), 0),
                unique=counts.get(keys.counter(kind, "unique"), 0),
                duplicate=counts.get(keys.counter(kind, "duplicate"), 0),
                quarantined=counts.get(keys.counter(kind, "quarantined"), 0),
                dropped=counts.get(keys.counter(kind, "dropped"), 0),
                forgotten=counts.get(keys.counter(kind, "forgotten"), 0),
            )
            for kind in KINDS
        },
        waiting=waiting[queues.EXPAND],
        moving=False,
        handlers=tuple(
            HandlerTotals(
                handler=handler,
                queued=_total(counts, handler, "queued"),
                filtered=_total(counts, handler, "filtered"),
                delivered=_total(counts, handler, "delivered"),
                dead=_total(counts, handler, "dead"),
                dropped=_total(counts, handler, "dropped"),
                forgotten=_total(counts, handler, "forgotten"),
                waiting=waiting[queues.delivery_queue(handler)],
            )
            for handler in keys.handler_names(counts)
        ),
    )


def _total(counts: dict[str, int], handler: str, outcome: keys.DeliveryOutcome) -> int:
    return sum(counts.get(keys.handler_counter(handler, kind, outcome), 0) for kind in KINDS)


def _list_jobs(connection: redis.Redis, queue: str, job_limit: _JobLimit) -> set[str]:
    """Return the ids of a queue's jobs, whatever their state. Raise TooManyJobs if there are more than allowed."""
    # In one transaction: a job that moves meanwhile would be missed, or counted twice.
    found = queue_jobs.read_jobs(connection, queue, last_index=job_limit.last_index).all_ids
    job_limit.check(len(found))
    found = queue_jobs.with_coalesced(connection, found, last_index=job_limit.last_index)
    job_limit.use(len(found))
    return found


def _have_moved(connection: redis.Redis, jobs: Mapping[str, set[str]]) -> bool:
    """Return whether a queue has other jobs than these by now."""
    try:
        return any(_list_jobs(connection, queue, _JobLimit(len(ids))) != ids for queue, ids in jobs.items())
    except TooManyJobs:
        return True
