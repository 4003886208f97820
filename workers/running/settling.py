"""The atomic steps in Redis, as Python calls them: take jobs along, fan events out, settle deliveries.

Each is one Lua script (`lua/`); this module knows the order of their arguments and nothing of why. What is done cannot
be undone, so a settlement waits for Redis as long as it is away, and one whose answer got lost is told from a new one.
"""

import logging
import math
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec
import redis
from msgspec import Struct

from shared import keys, queues
from workers.running import notebook, pauses, scripts

log = logging.getLogger("callbacks.worker")

Argument: TypeAlias = str | bytes | int | float
T = TypeVar("T")

# How Redis says that it will not write now: out of memory, a replica, no disk, too few replicas, and the like. Inside
# a script some servers put the code in the middle of their sentence.
_NOT_NOW: Final = re.compile(r"(?:^|-)(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY)\b")
_PAUSE_SECONDS: Final = 0.5
# How long a worker that is to stop waits for Redis. What it could not settle is in its notebook.
LAST_WAIT_SECONDS: Final = 3.0
_PAUSE_KEPT_MS: Final = keys.PAUSE_KEPT_SECONDS * 1000
# So many workers may die of one callback, or of one event at its handler; then it is set aside.
MOST_DEATHS: Final = 3


class StaleRun(Exception):
    """Another worker has gone on with this job meanwhile; what this run did since its last settlement is void."""


class OnHold(Exception):
    """The handler is paused: nothing was taken, and the job has to go back to its queue."""


class Portion(Struct, frozen=True):
    """A job's share of a run: its id, what of it was settled before (see `shared.progress`), its arguments.

    `taken` says that the job was taken along, so that its hash is ours to delete; the running job's is RQ's. `deaths`
    counts the workers that died in the midst of it since it last made progress; `finished` are the places of what a
    handler did in their hands. `is_probe` says of the running job that its handler's pause is over, if one event, which
    this run has to try first, goes well.
    """

    job_id: str
    progress: str
    arguments: list[Any]
    taken: bool
    deaths: int = 0
    finished: frozenset[int] = frozenset()
    is_probe: bool = False


class Settlement(Struct, frozen=True):
    """Items of one job that are settled: its progress before and after, and whether that ends the job."""

    portion: Portion
    start: str
    end: str
    ends: bool


class Delivery(Struct, frozen=True):
    """How to enqueue events for one handler: most events for one job, and ids for as many jobs as it may take."""

    handler: str
    most_events: int
    job_ids: tuple[str, ...]


class Offered(Struct, frozen=True, gc=False):
    """An event offered to the handlers: its marks, the handlers that want it as a mask of 0 and 1, its JSON."""

    kind: keys.CountedKind
    marks: tuple[str, ...]
    mask: str
    event: bytes


class SetAside(Struct, frozen=True):
    """An entry of the quarantine or of the dead letters: the hash's key, its id and time in the index, its fields."""

    key: str
    entry_id: str
    time_ms: int
    lifetime_seconds: int
    fields: Mapping[str, Argument]
    kind: keys.CountedKind = "unknown"
    records: int = 1


class Later(Struct, frozen=True):
    """A job that is to run later: its id, when (unix seconds), and the fields of its hash."""

    job_id: str
    due: float
    fields: Mapping[str, Argument]


class Word(Struct, frozen=True):
    """What a settlement says of its handler's pause (see `lua/settle.lua`): "" is nothing.

    "paused": the handler asked for `after_seconds`. Of the probe: it was "resumed", "failed", or came to no call.
    """

    verdict: Literal["", "paused", "resumed", "failed", "untried"] = ""
    after_seconds: float = 0.0
    reason: str = ""


NOTHING: Final = Word()


class Settled(Struct, frozen=True):
    """What a settlement found: whether the handler is paused now, and whether this settlement did or ended that.

    `seconds` is how long the pause lasts that it set, or lasted that it ended.
    """

    is_held: bool
    change: Literal["", "paused", "resumed"]
    seconds: float


def _never() -> bool:
    return False


class Steps:
    """The scripts, loaded over one connection."""

    def __init__(self, connection: redis.Redis, *, is_stopping: Callable[[], bool] = _never) -> None:
        self._is_stopping = is_stopping
        self._connection = connection
        self._take = connection.register_script(scripts.text("clock", "pausing", "take"))
        self._fan_out = connection.register_script(scripts.text("arguments", "settling", "fan_out"))
        self._settle = connection.register_script(scripts.text("arguments", "settling", "clock", "pausing", "settle"))

    def take(
        self,
        *,
        queue: str,
        job_id: str,
        own_arguments: Sequence[Any],
        most_items: int,
        most_bytes: int,
        handler: str = "",
        lease_seconds: float = 0.0,
    ) -> list[Portion]:
        """Give the running job and those waiting behind it, up to the limits, all now owned by this run.

        A job that this release cannot read goes back to the end of the queue, to fail alone. Raises StaleRun if the
        running job is gone: somebody else has ended it. With a `handler`, raises OnHold while that is paused; the run
        that may try one event after that is the only one for `lease_seconds`.
        """
        progress, *rest = self._take(
            keys=[
                keys.rq_queue(queue),
                keys.taken(job_id),
                keys.job(job_id),
                *([keys.paused(handler)] if handler else []),
            ],
            args=[
                most_items,
                most_bytes,
                keys.job(""),
                keys.TAKEN_PREFIX,
                math.ceil(lease_seconds * 1000),
                _PAUSE_KEPT_MS,
            ],
        )
        if progress is None:
            raise StaleRun
        if progress == 0:
            raise OnHold(OnHold.__doc__)
        deaths, noted, is_probe, *others = rest
        portions = [
            Portion(
                job_id,
                progress.decode(),
                queues.current(own_arguments),
                taken=False,
                deaths=deaths,
                finished=notebook.from_text(noted.decode()),
                is_probe=bool(is_probe),
            )
        ]
        for other, settled, data, noted in others:
            try:
                arguments = queues.arguments(data)
            except (msgspec.DecodeError, ValueError, RecursionError) as exc:
                log.error("action=job_unreadable queue=%s job=%s error=%s", queue, other.decode(), exc)
                self._leave(queue, job_id, other.decode())
                continue
            portions.append(
                Portion(
                    other.decode(),
                    settled.decode(),
                    arguments,
                    taken=True,
                    finished=notebook.from_text(noted.decode()),
                )
            )
        return portions

    def _leave(self, queue: str, job_id: str, other: str) -> None:
        with self._connection.pipeline() as pipe:
            pipe.lrem(keys.taken(job_id), 1, other)
            pipe.rpush(keys.rq_queue(queue), other)
            pipe.execute()

    def fan_out(
        self,
        *,
        run_id: str,
        settlements: Iterable[Settlement],
        mark_seconds: int,
        deliveries: Iterable[Delivery],
        events: Sequence[Offered],
        unreadable: Sequence[SetAside],
    ) -> tuple[int, int]:
        """Enqueue what is new of `events` for the handlers that want it; give how many were new, and how many not.

        Raises StaleRun if another run has settled any of these items before.
        """
        arguments = _settlements(run_id, settlements)
        arguments += (mark_seconds, keys.SEEN_PREFIX)
        _append_all(arguments, [_delivery(delivery) for delivery in deliveries])
        _append_all(arguments, _groups(events))
        _append_all(arguments, [(entry.kind, entry.records, *_set_aside(entry)) for entry in unreadable])
        current, *numbers = patiently(
            lambda: self._fan_out(keys=[keys.COUNTS, keys.RQ_QUEUES, keys.QUARANTINE], args=arguments),
            connection=self._connection,
            is_stopping=self._is_stopping,
        )
        if not current:
            raise StaleRun
        new, duplicate = numbers
        return new, duplicate

    def settle(
        self,
        *,
        run_id: str,
        handler: str,
        settlements: Iterable[Settlement],
        counts: Mapping[str, int],
        dead: Sequence[SetAside],
        later: Sequence[Later],
        word: Word = NOTHING,
    ) -> Settled:
        """Write down what became of deliveries, and what that says of a pause. Raises StaleRun as `fan_out` does."""
        arguments = _settlements(run_id, settlements)
        _append_all(arguments, list(counts.items()))
        _append_all(arguments, [_set_aside(entry) for entry in dead])
        _append_all(arguments, [(keys.job(j.job_id), j.job_id, j.due, *_flat(j.fields)) for j in later])
        arguments += (word.verdict, math.ceil(word.after_seconds * 1000), word.reason, _PAUSE_KEPT_MS)
        places = [keys.COUNTS, keys.dead(handler), keys.rq_scheduled(queues.delivery(handler)), keys.paused(handler)]
        current, *found = patiently(
            lambda: self._settle(keys=places, args=arguments),
            connection=self._connection,
            is_stopping=self._is_stopping,
        )
        if not current:
            raise StaleRun
        is_held, change, ms = found
        return Settled(bool(is_held), change.decode(), ms / 1000)

    def seconds_held(self, handler: str) -> float:
        """Give for how long a handler is paused, at least: 0 if it is not. Raises redis.RedisError."""
        return pauses.seconds_left(self._connection, handler)


def patiently(call: Callable[[], T], *, connection: redis.Redis, is_stopping: Callable[[], bool] = _never) -> T:
    """Repeat `call` until Redis carries it out over `connection`; it must be one that may be carried out twice.

    Raises redis.RedisError where waiting would not help, or has lasted LAST_WAIT_SECONDS since the worker is to stop.
    """
    away = False
    asked: float | None = None
    while True:
        try:
            done = call()
        except redis.RedisError as exc:
            if not _may_pass(exc):
                raise
            if asked is None and is_stopping():
                asked = time.monotonic()
            if asked is not None and time.monotonic() - asked >= LAST_WAIT_SECONDS:
                raise
            if not away:
                log.warning("action=redis_away error=%s", exc)
            if isinstance(exc, redis.ReadOnlyError):
                connection.connection_pool.disconnect()  # the name may lead to the new primary by now
            away = True
            time.sleep(_PAUSE_SECONDS)
            continue
        if away:
            log.warning("action=redis_back")
        return done


def _may_pass(exc: redis.RedisError) -> bool:
    passing = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError)
    if isinstance(exc, (redis.AuthenticationError, redis.exceptions.AuthorizationError)):
        return False
    return isinstance(exc, passing) or _NOT_NOW.search(str(exc)) is not None


def _settlements(run_id: str, settlements: Iterable[Settlement]) -> list[Argument]:
    arguments: list[Argument] = [keys.job(run_id), uuid.uuid4().hex]
    _append_all(
        arguments,
        [
            (
                keys.job(s.portion.job_id),
                s.portion.job_id,
                s.start,
                s.end,
                keys.taken(run_id) if s.ends and s.portion.taken else "",
            )
            for s in settlements
        ],
    )
    return arguments


# Stands for the events where the script puts them; no name of a handler holds it.
_EVENTS: Final = b'"\\u0000"'


def _delivery(delivery: Delivery) -> tuple[Argument, ...]:
    queue = queues.delivery(delivery.handler)
    # The events stand in the middle of the job's data, so its two ends are what the script needs.
    head, tail = queues.delivery_call(delivery.handler, [_EVENTS]).split(_EVENTS)
    fields = queues.job_fields(queue=queue, function=queues.DELIVER_JOB, description="")
    return (
        delivery.handler,
        keys.rq_queue(queue),
        head,
        tail,
        *_flat(fields),
        delivery.most_events,
        keys.job(""),
        len(delivery.job_ids),
        *delivery.job_ids,
    )


def _groups(events: Sequence[Offered]) -> list[list[Argument]]:
    """Put together what is alike in all but marks and event: the fewer words, the less for Redis to read."""
    groups: dict[tuple[str, str, int], list[Argument]] = {}
    for event in events:
        groups.setdefault((event.kind, event.mask, len(event.marks)), []).extend((*event.marks, event.event))
    return [[kind, mask, marks, len(words) // (marks + 1), *words] for (kind, mask, marks), words in groups.items()]


def _set_aside(entry: SetAside) -> tuple[Argument, ...]:
    return (entry.key, entry.entry_id, entry.time_ms, entry.lifetime_seconds, *_flat(entry.fields))


def _flat(fields: Mapping[str, Argument]) -> tuple[Argument, ...]:
    return (2 * len(fields), *(part for pair in fields.items() for part in pair))


def _append_all(arguments: list[Argument], entries: Sequence[Sequence[Argument]]) -> None:
    arguments.append(len(entries))
    for entry in entries:
        arguments.extend(entry)
