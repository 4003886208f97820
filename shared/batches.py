"""A batch: the callbacks of one commit, which are one RQ job; and the quarantine, where unreadable ones go instead.

The web process writes both in one transaction, the workers read them. Bodies travel as text inside JSON, so that
no body, however strange, can damage its neighbours.
"""

import itertools
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from shared import keys, queues, wire
from shared.keys import CountedKind

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = tuple[Argument, ...]

_EXPAND_KEY: Final = keys.rq_queue(queues.EXPAND)
# A commit whose answer got lost is sent again: what an entry weighs must then not be added twice.
_COUNT_BYTES: Final = (
    "redis.call('INCRBY', KEYS[2], ARGV[1] - (redis.call('HGET', KEYS[1], 'bytes') or 0)) "
    "redis.call('HSET', KEYS[1], 'bytes', ARGV[1])"
)

_KINDS: Final[dict[wire.Kind | None, CountedKind]] = {"status": "report", "reply": "reply", None: "unknown"}


class Accepted(Struct, frozen=True, gc=False, array_like=True):
    """A readable callback on its way: its kind, who posted it, when (ms since 1970), how many records, the body."""

    kind: wire.Kind
    source: str
    received_ms: int
    records: int
    body: str


class TracedAccepted(Accepted, frozen=True, gc=False, array_like=True):
    """One whose trace is recorded: `trace` is the span of its commit, a traceparent (see `shared.tracing`).

    Whoever reads it as a Accepted reads past that. Accepted's own next field has to leave this place alone.
    """

    trace: str = ""


class Quarantined(Struct, frozen=True, kw_only=True):
    """An authentic callback, or one record of it, that cannot be read: `error` says why, `body` is as received.

    `traceback`, if there is one, is that of an exception which its reading raised.
    """

    kind: wire.Kind | None
    source: str
    received_ms: int
    error: str
    body: bytes
    records: int = 1
    traceback: str = ""


def drop_empty_trace(callback: TracedAccepted) -> Accepted:
    """Give a callback that was read as one that may carry a trace, as the Accepted that it is if it carries none."""
    return callback if callback.trace else Accepted(*msgspec.structs.astuple(callback)[:-1])


def counted_kind(kind: wire.Kind | None) -> CountedKind:
    """Name the kind of event that a kind of callback brings, as the counters call it."""
    return _KINDS[kind]


def now_ms() -> int:
    """Give the time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def commit_commands(accepted: Sequence[Accepted], quarantined: Iterable[Quarantined] = ()) -> list[Command]:
    """Give the commands that keep these callbacks, to be carried out in one transaction.

    Afterwards they are one job on the queue "expand", or in the quarantine, and counted as received. They are written
    out here, as a redis-py pipeline takes 100 µs to collect and pack them: a third of what a lone callback waits for.
    """
    counts: defaultdict[str, int] = defaultdict(int)
    commands: list[Command] = []
    if accepted:
        job_id = queues.new_job_id()
        commands += (
            ("SADD", keys.RQ_QUEUES, _EXPAND_KEY),
            ("HSET", keys.job(job_id), *_pairs(expand_job(accepted))),
            ("RPUSH", _EXPAND_KEY, job_id),
        )
        for callback in accepted:
            counts[keys.counter(counted_kind(callback.kind), "received")] += callback.records
    for entry in quarantined:
        commands += _quarantine_commands(entry)
        counts[keys.counter(counted_kind(entry.kind), "received")] += entry.records
        counts[keys.counter(counted_kind(entry.kind), "quarantined")] += entry.records
    commands += [("HINCRBY", keys.COUNTS, counter, number) for counter, number in counts.items()]
    return commands


def expand_job(accepted: Sequence[Accepted]) -> dict[str, Any]:
    """Give the hash of the job that expands these callbacks."""
    fields = queues.job_fields(
        queue=queues.EXPAND,
        function=queues.EXPAND_JOB,
        description=f"{len(accepted)} callbacks",
        items=sum(callback.records for callback in accepted),
    )
    callbacks = [msgspec.structs.astuple(callback) for callback in accepted]
    fields["data"] = queues.encode_call(queues.EXPAND_JOB, (queues.PAYLOAD_VERSION, callbacks))
    return fields


def _quarantine_commands(entry: Quarantined) -> tuple[Command, ...]:
    """Give what adds `entry` to the quarantine, as `keep_for` of the scripts does."""
    entry_id, fields = new_quarantine_failure(entry)
    key = keys.quarantined(entry_id)
    return (
        ("EVAL", _COUNT_BYTES, 2, key, keys.failures_bytes(keys.QUARANTINE), _bytes(fields)),
        ("HSET", key, *_pairs(fields)),
        ("EXPIRE", key, keys.FAILURE_EXPIRY_SECONDS),
        ("ZADD", keys.QUARANTINE, entry.received_ms, entry_id),
    )


def _pairs(fields: Mapping[str, Argument]) -> Iterator[Argument]:
    return itertools.chain.from_iterable(fields.items())


def _bytes(fields: Mapping[str, str | bytes | int]) -> int:
    parts = (part for field in fields.items() for part in field)
    return keys.FAILURE_OVERHEAD_BYTES + sum(
        len(part if isinstance(part, bytes) else str(part).encode()) for part in parts
    )


def new_quarantine_failure(entry: Quarantined) -> tuple[str, dict[str, str | bytes | int]]:
    """Give an entry's new id and the fields of its hash. Ids sort by time: 12 digits of it, then 8 at random."""
    fields: dict[str, str | bytes | int] = {
        "kind": entry.kind or "",
        "source": entry.source,
        "received_ms": entry.received_ms,
        "records": entry.records,
        "error": entry.error,
        "body": entry.body,
    }
    if entry.traceback:
        fields["traceback"] = entry.traceback
    return f"{entry.received_ms:012x}{secrets.token_hex(4)}", fields
