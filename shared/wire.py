"""Reading a body: is it JSON, is it one of the gateway's two callbacks, and which of its records can be read.

Told apart here, and nowhere else: a body that is not JSON (`NotJson`: worth a repetition), a callback that is
JSON but not the documented shape (`NotDocumented`: no repetition helps), and a bundle of which only some records
cannot be read (`Fault`s: its siblings go on). Unknown keys, statuses and channels are never a fault.

`check` and `read` judge by the same steps, so that whatever the web process accepts becomes events in a worker, and
what is replayed from the quarantine does not land there again.
"""

from collections.abc import Collection
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from shared import bodies, json_reader
from shared.bodies import Fault, Kind, summary, text_of
from shared.schema import (
    DocumentedReplyCallback,
    DocumentedStatusCallback,
    Record,
    ReplyCallback,
    ReplyMessage,
    StatusCallback,
    StatusEnvelope,
)
from shared.steps import Steps, finished

__all__ = [
    "Callback",
    "Fault",
    "Kind",
    "Record",
    "ReplyCallback",
    "ReplyMessage",
    "Shape",
    "StatusEnvelope",
    "check",
    "checking",
    "read",
    "status_envelope",
    "summary",
    "text_of",
]


class Shape(Struct, frozen=True, gc=False):
    """What the web process needs to know of a body: its kind, how many records, and which are unreadable."""

    kind: Kind
    records: int
    faults: tuple[Fault, ...] = ()


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
    faults: tuple[Fault, ...] = ()
    unreadable: bytes = b""


# A body up to this size is checked at once: 2 ms where nothing is unusual, 10 ms where each record is.
AT_ONCE_BYTES: Final = 64 << 10

_STATUS_KEYS: Final = frozenset(("api_job_id", "client_job_id", "data"))
MOST_EXTRA_BYTES: Final = 1 << 20
_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode
_decode_documented_status = msgspec.json.Decoder(DocumentedStatusCallback).decode
_decode_documented_reply = msgspec.json.Decoder(DocumentedReplyCallback).decode
_decode_status = msgspec.json.Decoder(StatusCallback).decode
_decode_reply = msgspec.json.Decoder(ReplyCallback).decode


def check(body: bytes, kind: Kind | None) -> Shape:
    """Return the shape of `body`, posted where `kind` belongs (None: where either may come); what came counts.

    Raises NotJson, or NotDocumented when nothing of it can be read as an event.
    """
    if kind is None or len(body) > AT_ONCE_BYTES:
        return finished(checking(body, kind))
    text_of(body)
    try:
        if kind == "status":
            return Shape(kind, len(_decode_documented_status(body).data))
        _decode_documented_reply(body)
        return Shape(kind, 1)
    except (msgspec.DecodeError, RecursionError):
        return _check_new_keys(body, kind)


def checking(body: bytes, kind: Kind | None) -> Steps[Shape]:
    """Check `body` in steps of a few milliseconds, with the result and the errors of `check`."""
    opened = yield from bodies.opened(body, kind)
    return Shape(opened.kind, max(1, len(opened.parts)), opened.faults)


def read(body: bytes, kind: Kind | None) -> Callback:
    """Read `body` whole, for the making of events. Raises NotJson and NotDocumented, as `check` does."""
    if kind is not None and len(body) <= AT_ONCE_BYTES:
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
            return finished(checking(body, kind))  # which finds out whether it is one
    except (msgspec.DecodeError, RecursionError):
        return finished(checking(body, kind))  # which says what is wrong
    finished(json_reader.refuse_nesting(body, records=records))
    return Shape(kind, records)


def _read_usual(body: bytes, kind: Kind) -> Callback | None:
    """Read a small callback in which nothing is unusual, as nearly all are: in half the time, with one result.

    None for every other, which is read part by part. So few records cannot carry too much of the envelope's texts.
    """
    text_of(body)
    try:
        callback = _decode_status(body) if kind == "status" else _decode_reply(body)
        value = _decode_any(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    records = len(callback.data) if isinstance(callback, StatusCallback) else 1
    if json_reader.openers(body) - records > json_reader.MAX_DEPTH:
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
    opened = finished(bodies.opened(body, kind))
    if opened.kind == "reply":
        raw = json_reader.as_received(opened.body)
        return Callback("reply", opened.envelope, ((cast(ReplyCallback, opened.envelope), raw),), {})
    records = bodies.Records(opened.parts, frozenset(fault.index for fault in opened.faults))
    extra, unreadable = _extra(opened, records=len(records)), b""
    if opened.faults:
        given = json_reader.members(opened.body, "$")
        bad = msgspec.Raw(bodies.array_of([opened.parts[fault.index] for fault in opened.faults]))
        unreadable = _encode({**given, "data": bad})
    return Callback("status", opened.envelope, records, extra, opened.faults, unreadable)


def _extra(opened: bodies.Opened, *, records: int) -> dict[str, Any]:
    """Return the unknown keys next to `data`, as every event of the bundle carries them, if that is not too much."""
    if opened.around_bytes > 2 * MOST_EXTRA_BYTES:
        return {}  # before each of millions of keys becomes an object
    unknown = {k: part for k, part in json_reader.members(opened.body, "$").items() if k not in _STATUS_KEYS}
    if sum(len(key) + len(bytes(part)) for key, part in unknown.items()) * records > MOST_EXTRA_BYTES:
        return {}
    return {key: json_reader.value_or_text(part) for key, part in unknown.items()}
