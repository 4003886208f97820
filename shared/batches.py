"""A batch: the callbacks of one commit, which become one RQ job; unreadable ones go to the quarantine instead.

The web process writes both in one transaction, and the workers read them. A body that is JSON stands in the job's JSON
as it was received; any other is text there, so no body can damage another.
"""

import hashlib
import itertools
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
import orjson
from msgspec import Raw, Struct

from shared import failure_fields, keys, queues
from shared.keys import CountedKind
from shared.schema import Kind
from shared.stored_callback import StoredCallback

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = tuple[Argument, ...]

_EXPAND_KEY: Final = keys.rq_queue(queues.EXPAND)
# A commit whose reply was lost is sent again; the size of a failure must then not be added twice.
_COUNT_BYTES: Final = (
    "redis.call('INCRBY', KEYS[2], ARGV[1] - (redis.call('HGET', KEYS[1], 'bytes') or 0)) "
    "redis.call('HSET', KEYS[1], 'bytes', ARGV[1])"
)

# Of a refused callback that is known, only the repetition is counted. KEYS  1 the entry   2 the quarantine's bytes
# 3 counters. ARGV  time in ms, bytes, lifetime in s, the two counters that rise, and the fields of the entry.
_KEEP_ONCE: Final = """
if redis.call('HGET', KEYS[1], 'bytes') then
  redis.call('HINCRBY', KEYS[1], 'repeats', 1)
  redis.call('HSET', KEYS[1], 'last_ms', ARGV[1])
  return
end
redis.call('INCRBY', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[1], 'bytes', ARGV[2], unpack(ARGV, 6))
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('HINCRBY', KEYS[3], ARGV[4], 1)
redis.call('HINCRBY', KEYS[3], ARGV[5], 1)
"""

_KINDS: Final[dict[Kind | None, CountedKind]] = {"status": "report", "reply": "reply", None: "unknown"}


class Accepted(Struct, frozen=True, gc=False, array_like=True):
    """A readable callback on its way to the workers: kind, source, time (ms since 1970), number of records, body."""

    kind: Kind
    source: str
    received_ms: int
    records: int
    body: str


class TracedAccepted(Accepted, frozen=True, gc=False, array_like=True):
    """A callback whose trace is recorded: `trace` is the traceparent of its commit's span (see `shared.tracing`).

    Read as an Accepted, it is one without a trace. A new field of Accepted must not take this place.
    """

    trace: str = ""


_BRACKETS: Final = frozenset("{}[]")
_validate: Final = msgspec.json.Decoder(Raw).decode
_decode_string: Final = msgspec.json.Decoder(str).decode
_decode_stored: Final = msgspec.json.Decoder(StoredCallback).decode


class Quarantined(Struct, frozen=True, kw_only=True):
    """An authentic callback, or one record of it, that cannot be read: `error` says why, `body` is as received.

    `traceback` is that of the exception that reading it raised, if it raised one. `refused`: the status with which the
    web process refused it, 0 if it answered 200. Of a refused one `headers` say how to read the body, and equal
    bodies are one entry: the sender repeats what is refused.
    """

    kind: Kind | None
    source: str
    received_ms: int
    error: str
    body: bytes
    records: int = 1
    traceback: str = ""
    refused: int = 0
    headers: dict[str, str] = {}


def drop_empty_trace(callback: TracedAccepted) -> Accepted:
    """Return a callback that was decoded as TracedAccepted, as an Accepted if it has no trace."""
    return callback if callback.trace else Accepted(*msgspec.structs.astuple(callback)[:-1])


def counted_kind(kind: Kind | None) -> CountedKind:
    """Return the counters' word for the events of a kind of callback."""
    return _KINDS[kind]


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def commit_commands(accepted: Sequence[Accepted], quarantined: Iterable[Quarantined] = ()) -> list[Command]:
    """Return the Redis commands that store these callbacks, to be run in one transaction.

    Afterwards the accepted ones are one job in the queue "expand", the others are in the quarantine, and all are
    counted as received. They are plain tuples, as a redis-py pipeline takes 100 µs to collect and pack them: a third of
    the time that a single callback waits.
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
        received: defaultdict[Kind, int] = defaultdict(int)
        for callback in accepted:
            received[callback.kind] += callback.records
        for kind, records in received.items():
            counts[keys.counter(counted_kind(kind), "received")] += records
    for entry in quarantined:
        if entry.refused:
            commands += _keep_once_commands(entry)
            continue
        commands += _quarantine_commands(entry)
        counts[keys.counter(counted_kind(entry.kind), "received")] += entry.records
        counts[keys.counter(counted_kind(entry.kind), "quarantined")] += entry.records
    commands += [("HINCRBY", keys.COUNTS, counter, number) for counter, number in counts.items()]
    return commands


def expand_job(accepted: Sequence[Accepted]) -> dict[str, Any]:
    """Return the hash of the job that expands these callbacks."""
    fields = queues.job_fields(
        queue=queues.EXPAND,
        function=queues.EXPAND_JOB,
        description=f"{len(accepted)} callbacks",
        items=sum(callback.records for callback in accepted),
    )
    fields["data"] = queues.encode_expansion([_stored(callback) for callback in accepted])
    return fields


def decode_callback(stored: StoredCallback | Raw) -> Accepted:
    """Return a callback of an expand job, which is a TracedAccepted if it is traced. Raise msgspec.DecodeError."""
    read = _decode_stored(stored) if isinstance(stored, Raw) else stored
    text = str(read.body, "utf-8")
    if text[0] == '"':
        text = _decode_string(text)
    if read.trace:
        return TracedAccepted(read.kind, read.source, read.received_ms, read.records, text, read.trace)
    return Accepted(read.kind, read.source, read.received_ms, read.records, text)


def _stored(callback: Accepted) -> tuple[Any, ...]:
    """Return a callback as `decode_callback` reads it.

    As text each quotation mark of the body would be escaped: a fifth of what Redis writes for a waiting callback.
    """
    fields = (callback.kind, callback.source, callback.received_ms, callback.records, _as_json(callback.body))
    return (*fields, callback.trace) if isinstance(callback, TracedAccepted) else fields


def _as_json(body: str) -> orjson.Fragment | str:
    """Return what stands for a body in the job's JSON: itself, if it can be read back from there byte by byte."""
    # Blanks around it would be lost, and a JSON string would be taken for a body that is text.
    if body[:1] not in _BRACKETS or body[-1:] not in _BRACKETS:
        return body
    encoded = body.encode()
    try:
        _validate(encoded)
    except (msgspec.DecodeError, RecursionError):
        return body
    return orjson.Fragment(encoded)


def _quarantine_commands(entry: Quarantined) -> tuple[Command, ...]:
    """Return the commands that add `entry` to the quarantine, as the workers' scripts do."""
    entry_id, key, fields = _stored_failure(entry)
    return (
        ("EVAL", _COUNT_BYTES, 2, key, keys.failures_bytes(keys.QUARANTINE), _bytes(fields)),
        ("HSET", key, *_pairs(fields)),
        ("EXPIRE", key, keys.FAILURE_EXPIRY_SECONDS),
        ("ZADD", keys.QUARANTINE, entry.received_ms, entry_id),
    )


def _keep_once_commands(entry: Quarantined) -> tuple[Command, ...]:
    """Return the commands that add a refused callback to the quarantine, or count its repetition."""
    entry_id, key, fields = _stored_failure(entry)
    kind = counted_kind(entry.kind)
    arguments = (
        entry.received_ms,
        _bytes(fields),
        keys.FAILURE_EXPIRY_SECONDS,
        keys.counter(kind, "received"),
        keys.counter(kind, "quarantined"),
        *_pairs(fields),
    )
    return (
        ("EVAL", _KEEP_ONCE, 3, key, keys.failures_bytes(keys.QUARANTINE), keys.COUNTS, *arguments),
        # The first time counts, by which it ages.
        ("ZADD", keys.QUARANTINE, "NX", entry.received_ms, entry_id),
    )


def _stored_failure(entry: Quarantined) -> tuple[str, str, Mapping[str, str | bytes | int]]:
    """Return the id of an entry, its key, and its fields as they are stored."""
    entry_id, fields = new_quarantine_failure(entry)
    key = keys.quarantined(entry_id)
    return entry_id, key, failure_fields.seal(key, fields)


def _pairs(fields: Mapping[str, Argument]) -> Iterator[Argument]:
    return itertools.chain.from_iterable(fields.items())


def _bytes(fields: Mapping[str, str | bytes | int]) -> int:
    parts = (part for field in fields.items() for part in field)
    return keys.FAILURE_OVERHEAD_BYTES + sum(
        len(part if isinstance(part, bytes) else str(part).encode()) for part in parts
    )


def new_quarantine_failure(entry: Quarantined) -> tuple[str, dict[str, str | bytes | int]]:
    """Return the id and the fields of its hash. The id sorts by time; that of a refused one is a digest of its body."""
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
    if not entry.refused:
        # 12 digits of the time, then 8 random ones.
        return f"{entry.received_ms:012x}{secrets.token_hex(4)}", fields
    fields |= {"refused": entry.refused, "headers": msgspec.json.encode(entry.headers)}
    # A digest of its own, as a key has at most 64 bytes and a source may be longer.
    key = hashlib.blake2b(f"{entry.kind}|{entry.source}".encode()).digest()
    digest = hashlib.blake2b(entry.body, digest_size=10, key=key)
    return digest.hexdigest(), fields
