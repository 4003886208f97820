"""Reading a body: is it JSON, is it one of the gateway's two callbacks, and which of its records can be read.

Told apart here, and nowhere else: a body that is not JSON (`NotJson`: worth a repetition), a callback that is
JSON but not the documented shape (`UnexpectedShape`: no repetition helps), and a bundle of which only some records
cannot be read (`RecordFault`s: its siblings go on). Unknown keys, statuses and channels are never a fault.

`check` and `read` judge by the same steps, so that whatever the web process accepts becomes events in a worker, and
what is replayed from the quarantine does not land there again.
"""

from collections.abc import Collection
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from shared import bodies, json_reader
from shared.bodies import Kind, RecordFault, decode_text, summarize
from shared.cooperative import Stepwise, run_to_end
from shared.schema import (
    DocumentedReplyCallback,
    DocumentedStatusCallback,
    Record,
    ReplyCallback,
    ReplyMessage,
    StatusCallback,
    StatusEnvelope,
)

__all__ = [
    "Callback",
    "Kind",
    "Record",
    "RecordFault",
    "ReplyCallback",
    "ReplyMessage",
    "Shape",
    "StatusEnvelope",
    "check",
    "check_stepwise",
    "decode_text",
    "read",
    "status_envelope",
    "summarize",
]


class Shape(Struct, frozen=True, gc=False):
    """What the web process needs to know of a body: its kind, how many records, and which are unreadable."""

    kind: Kind
    records: int
    faults: tuple[RecordFault, ...] = ()


class Callback(Struct, frozen=True, gc=False):
    """A body read for good: envelope, and each readable record typed, with the object it was read from.

    `records` may be decoded anew, a few at a time, whenever they are gone through. `extra` are the envelope's unknown
    keys (none, if all the events together would carry more than 1 MiB of them). `unreadable` is the callback as if
    only the records at fault had come (empty without any): what goes to the quarantine, to be read again one day.
    """

    kind: Kind
    envelope: StatusEnvelope | ReplyCallback
    records: Collection[tuple[Record | ReplyCallback, dict[str, Any]]]
    extra: dict[str, Any]
    faults: tuple[RecordFault, ...] = ()
    unreadable: bytes = b""


# A body up to this size is checked at once: 2 ms where nothing is unusual, 10 ms where each record is.
SMALL_BODY_BYTES: Final = 64 << 10

_STATUS_KEYS: Final = frozenset(("api_job_id", "client_job_id", "data"))
MAX_EXTRA_BYTES: Final = 1 << 20
_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode
_decode_documented_status = msgspec.json.Decoder(DocumentedStatusCallback).decode
_decode_documented_reply = msgspec.json.Decoder(DocumentedReplyCallback).decode
_decode_status = msgspec.json.Decoder(StatusCallback).decode
_decode_reply = msgspec.json.Decoder(ReplyCallback).decode


def check(body: bytes, kind: Kind | None) -> Shape:
    """Return the shape of `body`, posted where `kind` belongs (None: where either may come); what came counts.

    Raises NotJson, or UnexpectedShape when nothing of it can be read as an event.
    """
    if kind is None or len(body) > SMALL_BODY_BYTES:
        return run_to_end(check_stepwise(body, kind))
    decode_text(body)
    try:
        if kind == "status":
            return Shape(kind, len(_decode_documented_status(body).data))
        _decode_documented_reply(body)
        return Shape(kind, 1)
    except (msgspec.DecodeError, RecursionError):
        return _check_new_keys(body, kind)


def check_stepwise(body: bytes, kind: Kind | None) -> Stepwise[Shape]:
    """Check `body` in steps of a few milliseconds, with the result and the errors of `check`."""
    parsed = yield from bodies.parse(body, kind)
    return Shape(parsed.kind, max(1, len(parsed.parts)), parsed.faults)


def read(body: bytes, kind: Kind | None) -> Callback:
    """Read `body` whole, for the making of events. Raises NotJson and UnexpectedShape, as `check` does."""
    if kind is not None and len(body) <= SMALL_BODY_BYTES:
        usual = _read_usual(body, kind)
        if usual is not None:
            return usual
    return _read_in_parts(body, kind)


def status_envelope(callback: Callback) -> StatusEnvelope:
    """Return the envelope of a callback of kind "status"."""
    return cast(StatusEnvelope, callback.envelope)


def _check_new_keys(body: bytes, kind: Kind) -> Shape:
    """Check a body that has keys which nobody documented: in them anything may stand, except nesting without end."""
    records = 1
    try:
        if kind == "status":
            records = len(_decode_status(body).data)
        elif not _decode_reply(body).reply_message_id:
            return run_to_end(check_stepwise(body, kind))  # which finds out whether it is one
    except (msgspec.DecodeError, RecursionError):
        return run_to_end(check_stepwise(body, kind))  # which says what is wrong
    run_to_end(json_reader.check_nesting(body, records=records))
    return Shape(kind, records)


def _read_usual(body: bytes, kind: Kind) -> Callback | None:
    """Read a small callback in which nothing is unusual, as nearly all are: in half the time, with one result.

    None for every other, which is read part by part. So few records cannot carry too much of the envelope's texts.
    """
    decode_text(body)
    try:
        callback = _decode_status(body) if kind == "status" else _decode_reply(body)
        value = _decode_any(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    records = len(callback.data) if isinstance(callback, StatusCallback) else 1
    if json_reader.count_brackets(body) - records > json_reader.MAX_DEPTH:
        return None
    if isinstance(callback, ReplyCallback):
        if not callback.reply_message_id and "data" in value:
            return None
        return Callback("reply", callback, ((callback, value),), {})
    if not value.keys() <= _STATUS_KEYS:
        return None
    known = StatusEnvelope(api_job_id=callback.api_job_id, client_job_id=callback.client_job_id)
    return Callback("status", known, tuple(zip(callback.data, value["data"], strict=True)), {})


def _read_in_parts(body: bytes, kind: Kind | None) -> Callback:
    parsed = run_to_end(bodies.parse(body, kind))
    if parsed.kind == "reply":
        raw = json_reader.read_raw_object(parsed.body)
        return Callback("reply", parsed.envelope, ((cast(ReplyCallback, parsed.envelope), raw),), {})
    records = bodies.ReadableRecords(parsed.parts, frozenset(fault.index for fault in parsed.faults))
    extra, unreadable = _extra(parsed, records=len(records)), b""
    if parsed.faults:
        given = json_reader.read_members(parsed.body, "$")
        bad = msgspec.Raw(bodies.json_array([parsed.parts[fault.index] for fault in parsed.faults]))
        unreadable = _encode({**given, "data": bad})
    return Callback("status", parsed.envelope, records, extra, parsed.faults, unreadable)


def _extra(parsed: bodies.ParsedBody, *, records: int) -> dict[str, Any]:
    """Return the unknown keys next to `data`, as every event of the bundle carries them, if that is not too much."""
    if parsed.around_bytes > 2 * MAX_EXTRA_BYTES:
        return {}  # before each of millions of keys becomes an object
    unknown = {k: part for k, part in json_reader.read_members(parsed.body, "$").items() if k not in _STATUS_KEYS}
    if sum(len(key) + len(bytes(part)) for key, part in unknown.items()) * records > MAX_EXTRA_BYTES:
        return {}
    return {key: json_reader.read_value_or_text(part) for key, part in unknown.items()}
