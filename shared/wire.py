"""Reading a body: is it JSON, is it one of the gateway's two callbacks, and which of its records can be read.

`check` and `read` decide between a body that is not JSON (`NotJson`: the sender should repeat it), a callback that is
JSON but not the documented shape (`UnexpectedShape`: no repetition helps), and a bundle of which some records cannot
be read (`RecordFault`s: the others are accepted). Unknown keys, statuses and channels are never a fault.

The web process calls `check`, the workers call `read`. Both judge by the same steps, so whatever the web process
accepts becomes events in a worker, and what is replayed from the quarantine does not return there. A small body in
which nothing is unusual is decoded at once, here. Any other is parsed part by part (`body_parser`), and its records are
decoded a step at a time (`readable_records`).
"""

from collections import Counter
from collections.abc import Collection
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from shared import body_parser, json_reader
from shared.body_parser import ParsedBody, RecordFault
from shared.cooperative import Stepwise, run_to_end
from shared.readable_records import ReadableRecords, is_plain, join, to_raw
from shared.schema import (
    DocumentedReplyCallback,
    DocumentedStatusCallback,
    Kind,
    PlainStatusCallback,
    Record,
    ReplyCallback,
    StatusCallback,
    StatusEnvelope,
    UndecodedRecords,
)

# A body up to this size is checked at once: 2 ms if nothing is unusual, 10 ms if each record is.
SMALL_BODY_BYTES: Final = 64 << 10
MAX_EXTRA_BYTES: Final = 1 << 20
_STATUS_KEYS: Final = frozenset(("api_job_id", "client_job_id", "data"))

_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode
_decode_undecoded_records = msgspec.json.Decoder(UndecodedRecords).decode
_decode_status = msgspec.json.Decoder(StatusCallback).decode
_decode_reply = msgspec.json.Decoder(ReplyCallback).decode
_decode_plain_status = msgspec.json.Decoder(PlainStatusCallback).decode
_decode_documented_status = msgspec.json.Decoder(DocumentedStatusCallback).decode
_decode_documented_reply = msgspec.json.Decoder(DocumentedReplyCallback).decode


class Shape(Struct, frozen=True, gc=False):
    """What the web process needs to know of a body: its kind, how many records, and which of them are unreadable."""

    kind: Kind
    records: int
    faults: tuple[RecordFault, ...] = ()


class Callback(Struct, frozen=True, gc=False):
    """A body as `read` returns it: the envelope, and each readable record, typed, with the object it was read from.

    That object is JSON which all our readers can decode: as received, or, of an unusual record, decoded and encoded
    again. `records` may be decoded anew, a few at a time, by each iteration. `extra` are the envelope's unknown keys;
    none, if all the events together would carry more than MAX_EXTRA_BYTES of them. `unreadable` is the callback with
    only the records at fault (empty without any): this is quarantined, and can be read again later. `unreadable_fields`
    counts, by name, the fields whose value could not be read, of the records that were decoded so far.
    """

    kind: Kind
    envelope: StatusEnvelope | ReplyCallback
    records: Collection[tuple[Record | ReplyCallback, msgspec.Raw]]
    extra: dict[str, Any]
    faults: tuple[RecordFault, ...] = ()
    unreadable: bytes = b""
    unreadable_fields: dict[str, int] = msgspec.field(default_factory=dict)


def check(body: bytes, kind: Kind | None) -> Shape:
    """Return the shape of `body`, posted as `kind` (None: as either). The shape has the kind that the body shows.

    Raise NotJson, or UnexpectedShape if nothing of it can be read as an event.
    """
    if kind is None or len(body) > SMALL_BODY_BYTES:
        return run_to_end(check_stepwise(body, kind))
    json_reader.decode_text(body)
    try:
        if kind == "status":
            return Shape(kind, len(_decode_documented_status(body).data))
        _decode_documented_reply(body)
        return Shape(kind, 1)
    except (msgspec.DecodeError, RecursionError):
        return _check_with_unknown_keys(body, kind)


def check_stepwise(body: bytes, kind: Kind | None) -> Stepwise[Shape]:
    """Do as `check`, in steps of a few milliseconds."""
    parsed = yield from body_parser.parse(body, kind)
    return Shape(parsed.kind, max(1, len(parsed.parts)), parsed.faults)


def read(body: bytes, kind: Kind | None) -> Callback:
    """Return all of `body`, to make events of it. Raise NotJson and UnexpectedShape, as `check` does."""
    if kind is not None and len(body) <= SMALL_BODY_BYTES:
        callback = _read_at_once(body, kind)
        if callback is not None:
            return callback
    return _read_in_parts(body, kind)


def _check_with_unknown_keys(body: bytes, kind: Kind) -> Shape:
    """Check a body with undocumented keys. They may hold anything that is not nested too deeply."""
    records = 1
    try:
        if kind == "status":
            records = len(_decode_status(body).data)
        elif not _decode_reply(body).reply_message_id:
            return run_to_end(check_stepwise(body, kind))  # which decides whether it is a reply
    except (msgspec.DecodeError, RecursionError):
        return run_to_end(check_stepwise(body, kind))  # which says what is wrong
    run_to_end(json_reader.check_nesting(body, records=records))
    return Shape(kind, records)


def _read_at_once(body: bytes, kind: Kind) -> Callback | None:
    """Read a small callback in which nothing is unusual, in half the time; None for any other."""
    try:
        callback = _read_documented(body, kind) if is_plain(body) else None
        if callback is not None:
            return callback
        json_reader.decode_text(body)
        return _read_with_unknown_keys(body, kind)
    except (msgspec.DecodeError, RecursionError):
        return None


def _read_documented(body: bytes, kind: Kind) -> Callback | None:
    """Read a plain callback with documented keys only, without decoding a record twice; None for any other.

    Each of its texts is decoded, so its encoding needs no check of its own.
    """
    try:
        if kind == "reply":
            return Callback("reply", reply := _decode_documented_reply(body), ((reply, msgspec.Raw(body)),), {})
        callback = _decode_usual_status(body)
    except (msgspec.ValidationError, UnicodeDecodeError):
        return None
    envelope = StatusEnvelope(api_job_id=callback.api_job_id, client_job_id=callback.client_job_id)
    parts = _decode_undecoded_records(body).data
    return Callback("status", envelope, tuple(zip(callback.data, parts, strict=True)), {})


def _decode_usual_status(body: bytes) -> DocumentedStatusCallback:
    try:
        return _decode_plain_status(body)
    except msgspec.ValidationError:
        return _decode_documented_status(body)


def _read_with_unknown_keys(body: bytes, kind: Kind) -> Callback | None:
    callback = _decode_status(body) if kind == "status" else _decode_reply(body)
    value = _decode_any(body)
    records = len(callback.data) if isinstance(callback, StatusCallback) else 1
    if json_reader.count_brackets(body) - records > json_reader.MAX_DEPTH:
        return None
    if isinstance(callback, ReplyCallback):
        if not callback.reply_message_id and "data" in value:
            return None
        return Callback("reply", callback, ((callback, to_raw(value)),), {})
    if not value.keys() <= _STATUS_KEYS:
        return None
    envelope = StatusEnvelope(api_job_id=callback.api_job_id, client_job_id=callback.client_job_id)
    return Callback("status", envelope, tuple(zip(callback.data, map(to_raw, value["data"]), strict=True)), {})


def _read_in_parts(body: bytes, kind: Kind | None) -> Callback:
    parsed = run_to_end(body_parser.parse(body, kind))
    unreadable_fields = Counter(parsed.unreadable_fields)
    if parsed.kind == "reply":
        raw = to_raw(json_reader.read_raw_object(parsed.body))
        reply = cast(ReplyCallback, parsed.envelope)
        return Callback("reply", reply, ((reply, raw),), {}, unreadable_fields=unreadable_fields)
    records = ReadableRecords(parsed.parts, frozenset(fault.index for fault in parsed.faults), unreadable_fields)
    extra, unreadable = _extra(parsed, records=len(records)), b""
    if parsed.faults:
        members = json_reader.read_members(parsed.body, "$")
        at_fault = msgspec.Raw(join([parsed.parts[fault.index] for fault in parsed.faults]))
        unreadable = _encode({**members, "data": at_fault})
    return Callback("status", parsed.envelope, records, extra, parsed.faults, unreadable, unreadable_fields)


def _extra(parsed: ParsedBody, *, records: int) -> dict[str, Any]:
    """Return the keys next to `data` that are unknown or unreadable: every event carries them; none, if too much."""
    if parsed.around_bytes > 2 * MAX_EXTRA_BYTES:
        return {}  # before each of millions of keys becomes an object
    read = _STATUS_KEYS - set(parsed.unreadable_fields)
    unknown = {k: part for k, part in json_reader.read_members(parsed.body, "$").items() if k not in read}
    if sum(len(key) + len(bytes(part)) for key, part in unknown.items()) * records > MAX_EXTRA_BYTES:
        return {}
    return {key: json_reader.read_value_or_text(part) for key, part in unknown.items()}
