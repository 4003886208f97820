"""The queues, and the jobs in them as RQ stores them: the only module that knows RQ's format of a job.

A job names its function by a dotted string, so the web process enqueues work without importing it. Its hash is what
RQ's own `Job.to_dict` returns, except `data`, the call: it is plain JSON, which `Job.restore` reads like its own
zlib-compressed form, and which a Lua script can build.
"""

import contextlib
import functools
import os
import time
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec
import orjson
import redis
from rq.job import Job, JobStatus, Retry

from shared import sealed_data, stored_events
from shared.events import StoredEvent
from shared.stored_callback import StoredCallback
from shared.stored_events import StoredEvents

EXPAND: Final = "expand"
EXPAND_JOB: Final = "workers.jobs.expand"
DELIVER_JOB: Final = "workers.jobs.deliver"

# The version of both jobs' arguments; a reader of version n reads all up to n.
#   expand   version, callbacks (each as batches.decode_callback reads it)
#   deliver  version, name of the handler, number of the attempt, events (each as events.decode reads it)
# Events that several handlers want are not in the arguments of each job, but once in `keys.PORTIONS`; the job names the
# portions in its field `portions`, and their events follow those in its arguments.
# Callbacks or events may be sealed (see `shared.sealed_data`): an expand job's together, of a delivery job each event.
# The last field of a callback or event that is traced is followed by its traceparent (see `shared.tracing`).
PAYLOAD_VERSION: Final = 1
FIRST_ATTEMPT: Final = 1

# RQ requeues a killed worker's job only while it has retries left, so it must never run out of them. What ends a
# failing job is the failure ladder, not this number.
_RETRIES: Final = 1_000_000
# RQ requires a timeout of jobs; our workers ignore it, because handlers have limits of their own.
_JOB_TIMEOUT_SECONDS: Final = 3600
_FAILURE_SECONDS: Final = 30 * 86_400
# A Job requires a connection even if it only builds its fields; nothing is ever sent over this one.
_UNUSED: Final = redis.Redis()
_DELIVERY_PREFIX: Final = "deliver-"


def delivery_queue(handler: str) -> str:
    """Name the queue of a handler's deliveries."""
    return f"{_DELIVERY_PREFIX}{handler}"


def handler_of(queue: str) -> str | None:
    """Return the name of the handler whose deliveries a queue has; None for the queue of callbacks."""
    return queue.removeprefix(_DELIVERY_PREFIX) if queue.startswith(_DELIVERY_PREFIX) else None


# The first bytes of a job's data.
_EXPAND_CALL: Final = b'["%b"' % EXPAND_JOB.encode()
_DELIVER_CALL: Final = b'["%b"' % DELIVER_JOB.encode()
# Stands for the events where a script puts them; no handler's name contains it.
_EVENTS: Final = b'"\\u0000"'
# A call as RQ's Job serialises it: function, instance, args, kwargs.
_decode_call: Final = msgspec.json.Decoder(tuple[str, Any, list[int | str | list[msgspec.Raw]], Any]).decode
_decode_expansion: Final = msgspec.json.Decoder(tuple[str, Any, tuple[int, list[StoredCallback]], Any]).decode
# Not strict, as in `events.decode`; the version is checked afterwards.
_decode_delivery: Final = msgspec.json.Decoder(
    tuple[str, Any, tuple[Any, str, int, list[StoredEvent]], Any], strict=False
).decode


class NewerRelease(ValueError):
    """A newer release has written the job."""


class EventsMissing(ValueError):
    """Events of the job are missing, as its portions in cb:events were deleted by hand."""


class JsonSerializer:
    """How RQ reads and writes job data: as JSON, because a client that can write to Redis must not run code.

    msgspec reads it, because orjson does not keep an integer beyond 64 bits. Of our jobs the callbacks or events are
    decoded with it, as their types are known.
    """

    @staticmethod
    def dumps(value: Any, /) -> bytes:
        """Write `value` as JSON."""
        return orjson.dumps(value)

    @staticmethod
    def loads(data: bytes, /) -> Any:
        """Read JSON, with what is sealed in it. Raise sealed_data.Sealed if that cannot be opened."""
        plain = unseal_call(data)
        try:
            return _read_call(plain)
        except msgspec.ValidationError:  # not a job, or one of another release
            return msgspec.json.decode(plain)


def new_job_id() -> str:
    """Return a new job's id."""
    return os.urandom(16).hex()


def new_step_id() -> str:
    """Return what the ids of the jobs begin with that one script enqueues; the script adds their numbers."""
    return os.urandom(14).hex()


def job_fields(
    *, queue: str, function: str, description: str, items: int = 0, status: JobStatus = JobStatus.QUEUED
) -> dict[str, Any]:
    """Return the hash of a job as RQ itself writes it, without `data`, and with how many `items` its data hold.

    The fields that RQ writes empty are left out: RQ does not need them, and with them a waiting job with one callback
    would be half as large again.
    """
    now = job_time()
    return {
        **_constant_fields(queue, function, status.value),
        "created_at": now,
        "enqueued_at": now,
        "description": description,
        "items": items,
    }


def script_job_fields(queue: str) -> dict[str, Any]:
    """Return the fields of a delivery job that a script writes, without those that depend on its events."""
    fields = job_fields(queue=queue, function=DELIVER_JOB, description="")
    del fields["description"], fields["items"]
    return fields


def job_time() -> str:
    """Return the time as a job's fields have it; such texts sort by time."""
    # As rq.utils.utcformat writes it, but to format the whole time takes longer than all the rest of a job's fields.
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{_format_second(seconds)}.{microseconds:06d}Z"


@functools.lru_cache(maxsize=1)
def _format_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


@functools.cache
def _constant_fields(queue: str, function: str, status: str) -> dict[str, Any]:
    """Return what is the same for all such jobs: making an RQ job takes longer than all the rest of a commit."""
    job = Job.create(
        function,
        connection=_UNUSED,
        args=(),
        origin=queue,
        status=JobStatus(status),
        description="",
        timeout=_JOB_TIMEOUT_SECONDS,
        result_ttl=0,
        failure_ttl=_FAILURE_SECONDS,
        retry=Retry(max=_RETRIES),
        serializer=JsonSerializer,
    )
    fields = {name: value for name, value in job.to_dict(include_meta=False).items() if value != ""}
    del fields["data"]
    return fields | {"status": status}


def delivery_job(
    handler: str,
    events: Sequence[bytes],
    *,
    attempt: int = FIRST_ATTEMPT,
    status: JobStatus = JobStatus.QUEUED,
    description: str,
) -> dict[str, Any]:
    """Return the hash of a job that delivers `events`, each as `events.encode` returns it, to a handler."""
    fields = job_fields(
        queue=delivery_queue(handler), function=DELIVER_JOB, description=description, items=len(events), status=status
    )
    fields["data"] = encode_delivery(handler, events, attempt=attempt)
    return fields


def encode_expansion(callbacks: Sequence[Any]) -> bytes:
    """Return the `data` of a job that expands callbacks; together they are sealed if there is a key."""
    stored: Any = callbacks
    if sealed_data.is_on():
        stored = orjson.Fragment(sealed_data.seal(orjson.dumps(callbacks), sealed_data.CALLBACKS))
    return encode_call(EXPAND_JOB, (PAYLOAD_VERSION, stored))


def encode_delivery(handler: str, events: Sequence[bytes], *, attempt: int = FIRST_ATTEMPT) -> bytes:
    """Return the `data` of a job that delivers events; each is sealed if there is a key."""
    sealed = sealed_data.seal_each(events, sealed_data.EVENTS)
    return encode_call(DELIVER_JOB, (PAYLOAD_VERSION, handler, attempt, list(map(orjson.Fragment, sealed))))


def delivery_ends(handler: str) -> tuple[bytes, bytes]:
    """Return what comes before and after the events in the `data` of a job that delivers them for the first time.

    A script puts the events between, each as JSON or sealed, with commas.
    """
    data = encode_call(DELIVER_JOB, (PAYLOAD_VERSION, handler, FIRST_ATTEMPT, [orjson.Fragment(_EVENTS)]))
    head, tail = data.split(_EVENTS)
    return head, tail


def encode_call(function: str, arguments: Sequence[Any]) -> bytes:
    """Return a job's `data`: the call of `function`, as RQ's Job serialises it."""
    return orjson.dumps((function, None, arguments, {}))


def parse_arguments(data: bytes, portions: Sequence[bytes] | None = ()) -> list[Any]:
    """Return the arguments in a job's `data`, compressed (as RQ rewrites it) or plain (as `encode_call` returns it).

    Its callbacks are StoredCallback, its events StoredEvents; both are undecoded (msgspec.Raw) if one of them is none.
    `portions` are those of its events that are stored apart, None if one of them is missing. Raise msgspec.DecodeError
    or ValueError if it is not a job of this service, is one of a newer release, or is sealed with a key that this
    process does not have; and EventsMissing.
    """
    plain = unseal_call(decompress(data))
    try:
        _, _, args, _ = _read_call(plain)
    except msgspec.ValidationError:
        _, _, args, _ = msgspec.json.decode(plain)
        check_version(args)
        raise
    return with_portions(check_version(args), portions)


def _read_call(plain: bytes) -> tuple[str, Any, list[Any], Any]:
    if is_expand_job(plain):
        with contextlib.suppress(msgspec.ValidationError):
            function, instance, args, options = _decode_expansion(plain)
            return function, instance, list(args), options
    elif plain.startswith(_DELIVER_CALL):
        with contextlib.suppress(Exception):  # as in `stored_events.read`
            function, instance, (*others, decoded), options = _decode_delivery(plain)
            return function, instance, [*others, StoredEvents(decoded, functools.partial(_split_call, plain))], options
    return _decode_call(plain)


def _split_call(plain: bytes) -> list[msgspec.Raw]:
    """Return the events of a delivery job undecoded."""
    _, _, (*_, split), _ = _decode_call(plain)
    return cast("list[msgspec.Raw]", split)


def decompress(data: bytes) -> bytes:
    """Return a job's `data` without the compression of RQ, if it has rewritten the job."""
    if not data.startswith(b"["):  # not plain; trying to decompress plain data takes longer than reading them
        with contextlib.suppress(zlib.error):
            return zlib.decompress(data)
    return data


def is_expand_job(data: bytes) -> bool:
    """Return whether a job's `data` are those of a job that expands callbacks."""
    return data.startswith(_EXPAND_CALL)


def unseal_call(data: bytes) -> bytes:
    """Return a job's `data` as JSON without anything sealed. Raise sealed_data.Sealed."""
    context = sealed_data.CALLBACKS if is_expand_job(data) else sealed_data.EVENTS
    return sealed_data.unseal(data, context)


def unseal_portion(portion: bytes) -> bytes:
    """Return a portion's events as JSON with commas between them. Raise sealed_data.Sealed."""
    return sealed_data.unseal(portion, sealed_data.EVENTS)


def with_portions(arguments: Sequence[Any], portions: Sequence[bytes] | None) -> list[Any]:
    """Return a job's arguments with the events of its portions. Raise EventsMissing if that is None."""
    if portions is None:
        raise EventsMissing(
            f"{EventsMissing.__doc__} `callbacks backfill` can enqueue them again from the tables of `sql`."
        )
    if not portions:
        return list(arguments)
    *others, events = arguments
    array = b"[%b]" % b",".join(map(unseal_portion, portions))
    return [*others, stored_events.join(events, stored_events.read(array))]


def check_version(args: Sequence[Any]) -> list[Any]:
    """Return a job's arguments as they are. Raise NewerRelease if one wrote them, ValueError for another service's."""
    version = args[0] if args else None
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"arguments of version {version!r}: this is not a job of this service")
    if version > PAYLOAD_VERSION:
        raise NewerRelease(f"arguments of version {version}, and this release reads 1 to {PAYLOAD_VERSION}")
    return list(args)
