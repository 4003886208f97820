"""A body is parsed part by part: its kind, its envelope, where each of its records is, and which cannot be read.

This is done in steps: a body of 16 MiB takes no step of more than about 50 ms, and most take less than one.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from shared import field_readers, json_reader, readable_records
from shared.cooperative import Stepwise
from shared.errors import UnexpectedShape
from shared.schema import CallbackKeys, Kind, ReplyCallback, StatusEnvelope

_UNUSUAL_RECORDS_PER_STEP: Final = 100
# Up to this number each unreadable record is reported. With more of them the whole callback is quarantined.
MAX_FAULTS: Final = 1000
MIN_RECORD_BYTES: Final = len(b'{"message_id":1,"status":"A"},')

# Up to this size `data` may have any number of elements.
_MAX_UNCOUNTED_BYTES: Final = 1 << 20
# The envelope's texts are copied into each record of a body (4 MiB hold 130,000): a long text would fill Redis. The
# gateway's own texts, of 36 and at most 255 characters with 50,000 records, stay below this, however they are escaped.
_MAX_ENVELOPE_CHARACTERS: Final = 16 << 20
_BOM: Final = b"\xef\xbb\xbf"

_decode_keys = msgspec.json.Decoder(CallbackKeys).decode
_decode_reply = msgspec.json.Decoder(ReplyCallback).decode
_decode_parts = msgspec.json.Decoder(Annotated[list[msgspec.Raw], Meta(min_length=1)]).decode


class RecordFault(Struct, frozen=True):
    """A record that cannot be read: its place in `data`, and why, with the JSON path."""

    index: int
    error: str


def summarize(faults: Sequence[RecordFault], *, limit: int = 3) -> Iterator[str]:
    """Yield the errors of the first few unreadable records, and how many more there are."""
    yield from (fault.error for fault in faults[:limit])
    if len(faults) > limit:
        yield f"and {len(faults) - limit} more records"


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
    """Parse `body`, posted as `kind`. Raise NotJson, and UnexpectedShape if no record of it can be read."""
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


def split_array(array: bytes, at: str) -> Stepwise[list[msgspec.Raw]]:
    """Split the array at the path `at` into its records, undecoded.

    An object whose keys are all numbers is a list with gaps, as PHP writes it; any other object is one record alone.
    Raise UnexpectedShape, also if there are more elements than can be records. Each takes 80 bytes and 70 ns; 16 MiB
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
    for begin in range(0, len(parts), readable_records.RECORDS_PER_STEP):
        step = parts[begin : begin + readable_records.RECORDS_PER_STEP]
        try:
            readable_records.decode_records(readable_records.join(step))
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
        readable_records.read_record(part, index)
    except UnexpectedShape as exc:
        return RecordFault(index, str(exc))
    return None


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
