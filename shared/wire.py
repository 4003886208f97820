"""Reading a body: is it JSON, is it one of the gateway's two callbacks, and which of its records can be read.

This module alone decides between a body that is not JSON (`NotJson`: the sender should repeat it), a callback that is
JSON but not the documented shape (`UnexpectedShape`: no repetition helps), and a bundle of which some records cannot
be read (`RecordFault`s: the others are accepted). Unknown keys, statuses and channels are never a fault.

The web process calls `check`, the workers call `read`. Both judge by the same steps, so whatever the web process
accepts becomes events in a worker, and what is replayed from the quarantine does not return there. A small body in
which nothing is unusual is decoded at once. Any other is parsed part by part, in steps: a body of 16 MiB takes no step
of more than about 50 ms, and most take less than one.
"""

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

import msgspec
from msgspec import Meta, Struct

from shared import field_readers, json_reader
from shared.cooperative import Stepwise, run_to_end
from shared.errors import UnexpectedShape
from shared.schema import (
    CallbackKeys,
    DocumentedRecord,
    DocumentedReplyCallback,
    DocumentedStatusCallback,
    PlainRecord,
    PlainStatusCallback,
    Record,
    ReplyCallback,
    StatusCallback,
    StatusEnvelope,
    UndecodedRecords,
)

Kind: TypeAlias = Literal["status", "reply"]

# A body up to this size is checked at once: 2 ms if nothing is unusual, 10 ms if each record is.
SMALL_BODY_BYTES: Final = 64 << 10
# The work of a step, if nothing is unusual in its records: 0.2 ms. One by one they take 20 µs each, or more.
RECORDS_PER_STEP: Final = 500
_UNUSUAL_RECORDS_PER_STEP: Final = 100
# Up to this number each unreadable record is reported. With more of them the whole callback is quarantined.
MAX_FAULTS: Final = 1000
MAX_EXTRA_BYTES: Final = 1 << 20
MIN_RECORD_BYTES: Final = len(b'{"message_id":1,"status":"A"},')

# Up to this size `data` may have any number of elements.
_MAX_UNCOUNTED_BYTES: Final = 1 << 20
# The envelope's texts are copied into each record of a body (4 MiB hold 130,000): a long text would fill Redis. The
# gateway's own texts, of 36 and at most 255 characters with 50,000 records, stay below this, however they are escaped.
_MAX_ENVELOPE_CHARACTERS: Final = 16 << 20
# As integers: `in` reads a `bytes` operand only after it has tried it as an integer.
_BACKSLASH: Final = ord("\\")
_LINE_FEED: Final = ord("\n")
_BOM: Final = b"\xef\xbb\xbf"
_STATUS_KEYS: Final = frozenset(("api_job_id", "client_job_id", "data"))

_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode
_decode_keys = msgspec.json.Decoder(CallbackKeys).decode
_decode_undecoded_records = msgspec.json.Decoder(UndecodedRecords).decode
_decode_status = msgspec.json.Decoder(StatusCallback).decode
_decode_reply = msgspec.json.Decoder(ReplyCallback).decode
_decode_plain_status = msgspec.json.Decoder(PlainStatusCallback).decode
_decode_plain_records = msgspec.json.Decoder(list[PlainRecord]).decode
_decode_documented_status = msgspec.json.Decoder(DocumentedStatusCallback).decode
_decode_documented_reply = msgspec.json.Decoder(DocumentedReplyCallback).decode
_decode_parts = msgspec.json.Decoder(Annotated[list[msgspec.Raw], Meta(min_length=1)]).decode
_decode_objects = msgspec.json.Decoder(list[dict[str, Any]]).decode
_decode_record = msgspec.json.Decoder(Record).decode
_decode_records = msgspec.json.Decoder(list[Record]).decode
_decode_documented_records = msgspec.json.Decoder(list[DocumentedRecord]).decode


class RecordFault(Struct, frozen=True):
    """A record that cannot be read: its place in `data`, and why, with the JSON path."""

    index: int
    error: str


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

    Raises NotJson, or UnexpectedShape if nothing of it can be read as an event.
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
    parsed = yield from parse(body, kind)
    return Shape(parsed.kind, max(1, len(parsed.parts)), parsed.faults)


def read(body: bytes, kind: Kind | None) -> Callback:
    """Return all of `body`, to make events of it. Raises NotJson and UnexpectedShape, as `check` does."""
    if kind is not None and len(body) <= SMALL_BODY_BYTES:
        callback = _read_at_once(body, kind)
        if callback is not None:
            return callback
    return _read_in_parts(body, kind)


def split_array(array: bytes, at: str) -> Stepwise[list[msgspec.Raw]]:
    """Split the array at the path `at` into its records, undecoded.

    An object whose keys are all numbers is a list with gaps, as PHP writes it; any other object is one record alone.
    Raises UnexpectedShape, also if there are more elements than can be records. Each takes 80 bytes and 70 ns; 16 MiB
    of "{}," would be 6 million.
    """
    is_numbered = json_reader.begins_numbered(array)
    if array.startswith(b"{") and not is_numbered:
        return [msgspec.Raw(array)]
    is_list = is_numbered or array.startswith(b"[")
    if len(array) > _MAX_UNCOUNTED_BYTES and is_list and array.count(b",") > len(array) // 16:
        has_too_many = yield from json_reader.has_more_elements(array, len(array) // MIN_RECORD_BYTES + MAX_FAULTS)
        if has_too_many:
            raise UnexpectedShape(f"more than {MAX_FAULTS} records cannot be read: {at}")
        yield
    if is_numbered:
        return (yield from json_reader.read_numbered(array, at)) or [msgspec.Raw(array)]
    return json_reader.decode(_decode_parts, array, at)


def summarize(faults: Sequence[RecordFault], *, limit: int = 3) -> Iterator[str]:
    """Yield the errors of the first few unreadable records, and how many more there are."""
    yield from (fault.error for fault in faults[:limit])
    if len(faults) > limit:
        yield f"and {len(faults) - limit} more records"


# At once


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
        callback = _read_documented(body, kind) if _is_plain(body) else None
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
        return Callback("reply", callback, ((callback, _raw(value)),), {})
    if not value.keys() <= _STATUS_KEYS:
        return None
    envelope = StatusEnvelope(api_job_id=callback.api_job_id, client_job_id=callback.client_job_id)
    return Callback("status", envelope, tuple(zip(callback.data, map(_raw, value["data"]), strict=True)), {})


def _is_plain(part: bytes) -> bool:
    """Return whether JSON with documented keys only is stored as it was received.

    Without an escape, as all that searches what is stored compares texts; and without indentation, which would fill
    Redis.
    """
    return _BACKSLASH not in part and _LINE_FEED not in part


def _raw(value: dict[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))


# Part by part


class ParsedBody(Struct, frozen=True):
    """A body whose records were found and judged: those at fault are named, and none is decoded yet.

    `around_bytes` is the size of what stands around `data`. `unreadable_fields` are those of the envelope.
    """

    kind: Kind
    body: bytes
    envelope: StatusEnvelope | ReplyCallback
    parts: list[msgspec.Raw]
    faults: tuple[RecordFault, ...]
    around_bytes: int = 0
    unreadable_fields: tuple[str, ...] = ()


def parse(body: bytes, kind: Kind | None) -> Stepwise[ParsedBody]:
    """Parse `body`, posted as `kind`. Raises NotJson, and UnexpectedShape if no record of it can be read."""
    json_reader.decode_text(body)
    yield
    body = yield from json_reader.replace_lone_surrogates(body.removeprefix(_BOM))
    keys = json_reader.decode(_decode_keys, body, "$")
    yield
    if _kind_of(keys, kind) == "reply":
        yield from json_reader.check_nesting(body, records=1)
        reply, unreadable_fields = _read_reply(body)
        return ParsedBody("reply", body, reply, [], (), unreadable_fields=unreadable_fields)
    if keys.data is msgspec.UNSET:
        raise UnexpectedShape("missing required key: $.data")
    data = bytes(keys.data)
    if data.startswith(b'"'):
        data = (yield from json_reader.read_nested(data)) or data
    parts = yield from split_array(data, "$.data")
    yield
    yield from json_reader.check_nesting(body, records=len(parts))
    yield from json_reader.check_nesting(data, records=len(parts))
    faults = yield from _find_faults(parts)
    if len(faults) == len(parts):
        raise UnexpectedShape("; ".join(summarize(faults)))
    envelope, unreadable_fields = _read_envelope(keys, records=len(parts) - len(faults))
    return ParsedBody("status", body, envelope, parts, faults, len(body) - len(keys.data), unreadable_fields)


def _kind_of(keys: CallbackKeys, posted_as: Kind | None) -> Kind:
    is_status = keys.data is not msgspec.UNSET
    # Both kinds may have a `req_uuid`, so with `data` only the message's own id makes it a reply.
    is_reply = _has_value(keys.reply_message_id) or (
        not is_status and not (keys.reply_message_id is msgspec.UNSET and keys.req_uuid is msgspec.UNSET)
    )
    kind: Kind | None = "status" if is_status else "reply" if is_reply else None
    if posted_as is None:
        if kind is None:
            raise UnexpectedShape("neither a status callback ($.data) nor a reply ($.reply_message_id): $")
        return kind
    # If the two URLs were swapped, or one was configured for both, nothing is lost.
    return posted_as if kind is None or (is_status if posted_as == "status" else is_reply) else kind


def _has_value(part: msgspec.Raw | msgspec.UnsetType) -> bool:
    return not isinstance(part, msgspec.UnsetType) and bytes(part) not in (b"null", b'""', b"[]", b"{}")


def _find_faults(parts: Sequence[msgspec.Raw]) -> Stepwise[tuple[RecordFault, ...]]:
    """Find the unreadable records. A step is decoded at once, and one by one only if that fails."""
    faults: list[RecordFault] = []
    for begin in range(0, len(parts), RECORDS_PER_STEP):
        step = parts[begin : begin + RECORDS_PER_STEP]
        try:
            _decode_records(_join(step))
        except msgspec.DecodeError:
            for index, part in enumerate(step, begin):
                fault = _fault_of(part, index)
                if fault is not None:
                    faults.append(fault)
                if index % _UNUSUAL_RECORDS_PER_STEP == 0:
                    yield
            if len(faults) > MAX_FAULTS:
                why = "; ".join(summarize(faults[: MAX_FAULTS + 1]))
                raise UnexpectedShape(f"more than {MAX_FAULTS} records cannot be read: {why}") from None
        yield
    return tuple(faults)


def _fault_of(part: msgspec.Raw, index: int) -> RecordFault | None:
    try:
        _read_record(part, index)
    except UnexpectedShape as exc:
        return RecordFault(index, str(exc))
    return None


def _read_record(part: msgspec.Raw, index: int = 0, unreadable_fields: Counter[str] | None = None) -> Record:
    """Return a record. Adds the names of the fields that cannot be read to `unreadable_fields`."""
    try:
        return _decode_record(part)
    except msgspec.DecodeError:
        record, unreadable = field_readers.read(Record, _as_object(part), f"$.data[{index}]")
    if unreadable_fields is not None:
        unreadable_fields.update(unreadable)
    return record


def _as_object(part: msgspec.Raw) -> bytes | msgspec.Raw:
    """Return the object that a record holds as a JSON string; the record as it is, if it is no such string."""
    text = bytes(part)
    if not text.startswith(b'"') or len(text) > SMALL_BODY_BYTES:
        return part
    nested = run_to_end(json_reader.read_nested(text))
    return nested if nested is not None and json_reader.count_brackets(nested) <= json_reader.MAX_DEPTH else part


def _read_reply(body: bytes) -> tuple[ReplyCallback, tuple[str, ...]]:
    try:
        return _decode_reply(body), ()
    except msgspec.DecodeError:
        return field_readers.read(ReplyCallback, body, "$")


def _read_envelope(keys: CallbackKeys, *, records: int) -> tuple[StatusEnvelope, tuple[str, ...]]:
    """Return the texts that each of `records` carries, and the names of those that cannot be read or are too long."""
    values: dict[str, str | int | None] = {}
    unreadable, left = [], _MAX_ENVELOPE_CHARACTERS
    for key, part in (("api_job_id", keys.api_job_id), ("client_job_id", keys.client_job_id)):
        if isinstance(part, msgspec.UnsetType):
            continue
        try:
            value = field_readers.envelope_text(part)
        except field_readers.Unreadable:
            unreadable.append(key)
            continue
        # The length of the text, not of its JSON: \u00fc is one character, and takes one in the events.
        characters = 0 if value is None else len(str(value)) * records
        if characters > left:
            unreadable.append(key)
            continue
        left -= characters
        values[key] = value
    return StatusEnvelope(**values), tuple(unreadable)


def _read_in_parts(body: bytes, kind: Kind | None) -> Callback:
    parsed = run_to_end(parse(body, kind))
    unreadable_fields = Counter(parsed.unreadable_fields)
    if parsed.kind == "reply":
        raw = _raw(json_reader.read_raw_object(parsed.body))
        reply = cast(ReplyCallback, parsed.envelope)
        return Callback("reply", reply, ((reply, raw),), {}, unreadable_fields=unreadable_fields)
    records = ReadableRecords(parsed.parts, frozenset(fault.index for fault in parsed.faults), unreadable_fields)
    extra, unreadable = _extra(parsed, records=len(records)), b""
    if parsed.faults:
        members = json_reader.read_members(parsed.body, "$")
        at_fault = msgspec.Raw(_join([parsed.parts[fault.index] for fault in parsed.faults]))
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


class ReadableRecords(Struct, frozen=True):
    """The readable records of a bundle, decoded a step at a time: all at once would fill a worker's memory.

    `unreadable_fields` counts the fields that could not be read, as the records are decoded.
    """

    parts: list[msgspec.Raw]
    at_fault: frozenset[int]
    unreadable_fields: Counter[str]

    def __len__(self) -> int:
        return len(self.parts) - len(self.at_fault)

    def __iter__(self) -> Iterator[tuple[Record, msgspec.Raw]]:
        for begin in range(0, len(self.parts), RECORDS_PER_STEP):
            step = self.parts[begin : begin + RECORDS_PER_STEP]
            if self.at_fault:
                step = [part for index, part in enumerate(step, start=begin) if index not in self.at_fault]
            yield from _decode_step(step, self.unreadable_fields)

    def __contains__(self, item: object) -> bool:
        return any(item == each for each in self)


def _decode_step(parts: Sequence[msgspec.Raw], unreadable_fields: Counter[str]) -> Iterator[tuple[Record, msgspec.Raw]]:
    array = _join(parts)
    if _is_plain(array):
        for decode in (_decode_plain_records, _decode_documented_records):
            with contextlib.suppress(msgspec.DecodeError):
                return zip(decode(array), parts, strict=True)
    if json_reader.count_brackets(array) - len(parts) <= json_reader.MAX_DEPTH:
        with contextlib.suppress(msgspec.DecodeError):
            return zip(_decode_records(array), map(_raw, _decode_objects(array)), strict=True)
    return (
        (_read_record(part, unreadable_fields=unreadable_fields), _raw(json_reader.read_raw_object(_as_object(part))))
        for part in parts
    )


def _join(parts: Sequence[msgspec.Raw]) -> bytes:
    """Return the JSON array of `parts`."""
    return b"[%b]" % b",".join(parts)
