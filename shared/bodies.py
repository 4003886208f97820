"""A body opened part by part, for all that is large or unusual: what is wrong with each of its records is found out.

In steps, as the web process has others to serve meanwhile: no single step of a body of 16 MiB takes more than about
50 ms, most take less than one.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from shared import json_reader, lone_surrogates
from shared.cooperative import Stepwise
from shared.errors import NotJson, UnexpectedShape
from shared.schema import Head, Record, ReplyCallback, StatusEnvelope

Kind: TypeAlias = Literal["status", "reply"]

# Of so many each is a message of its own; beyond, the whole is set apart.
MAX_FAULTS: Final = 1000
# A step's work: 0.2 ms where nothing is unusual, 3 ms where each record is.
RECORDS_PER_STEP: Final = 500

# Up to this size `data` may have as many elements as it likes.
_MOST_PARTED_BYTES: Final = 1 << 20
_SHORTEST_RECORD_BYTES: Final = len(b'{"message_id":1,"status":"A"},')
_BOM: Final = b"\xef\xbb\xbf"
# Copied into each of a body's records (4 MiB hold 130,000), a long text of the envelope would fill Redis. The
# gateway's own, 36 and at most 255 characters with 50,000 records, stay within this, however they are escaped.
_MOST_ENVELOPE_CHARACTERS: Final = 16 << 20
_decode_head = msgspec.json.Decoder(Head).decode
_decode_array = msgspec.json.Decoder(Annotated[list[msgspec.Raw], Meta(min_length=1)]).decode
_decode_list = msgspec.json.Decoder(list[dict[str, Any]]).decode
_decode_record = msgspec.json.Decoder(Record).decode
_decode_records = msgspec.json.Decoder(list[Record]).decode
_decode_any = msgspec.json.Decoder().decode
_decode_reply = msgspec.json.Decoder(ReplyCallback).decode


class RecordFault(Struct, frozen=True):
    """A record that cannot be read: its place in `data`, and why, with the JSON path."""

    index: int
    error: str


class ParsedBody(Struct, frozen=True):
    """A body that was judged: of its records, each unread, those at fault are named.

    `around_bytes` is the size of what stands around `data`.
    """

    kind: Kind
    body: bytes
    envelope: StatusEnvelope | ReplyCallback
    parts: list[msgspec.Raw]
    faults: tuple[RecordFault, ...]
    around_bytes: int = 0


def parse(body: bytes, kind: Kind | None) -> Stepwise[ParsedBody]:
    """Parse `body`, posted as `kind`. Raises NotJson, and UnexpectedShape where no record of it can be read."""
    decode_text(body)
    yield
    body = yield from lone_surrogates.replace_lone_surrogates(body.removeprefix(_BOM))
    head = json_reader.decode(_decode_head, body, "$")
    yield
    if _kind_of(head, kind) == "reply":
        yield from json_reader.check_nesting(body, records=1)
        return ParsedBody("reply", body, json_reader.read_struct(ReplyCallback, _decode_reply, body, "$"), [], ())
    if head.data is msgspec.UNSET:
        raise UnexpectedShape("missing required key: $.data")
    parts = yield from _parts(bytes(head.data))
    yield
    yield from json_reader.check_nesting(body, records=len(parts))
    faults = yield from _faults(parts)
    if len(faults) == len(parts):
        raise UnexpectedShape("; ".join(summarize(faults)))
    envelope = _envelope(head, records=len(parts) - len(faults))
    return ParsedBody("status", body, envelope, parts, faults, len(body) - len(head.data))


def _parts(data: bytes) -> Stepwise[list[msgspec.Raw]]:
    """Part the records, each unread: 80 bytes and 70 ns for each, which 16 MiB of "{}," would take 6 million times."""
    if len(data) > _MOST_PARTED_BYTES and data.startswith(b"[") and data.count(b",") > len(data) // 16:
        too_many = yield from json_reader.has_more_elements(data, len(data) // _SHORTEST_RECORD_BYTES + MAX_FAULTS)
        if too_many:
            raise UnexpectedShape(f"more than {MAX_FAULTS} records cannot be read: $.data")
    return json_reader.decode(_decode_array, data, "$.data")


def _kind_of(head: Head, posted_as: Kind | None) -> Kind:
    is_status = head.data is not msgspec.UNSET
    # A `req_uuid` says only that it is a callback, so with `data` in it the message's own id makes it a reply.
    is_reply = _is_given(head.reply_message_id) or (
        not is_status and not (head.reply_message_id is msgspec.UNSET and head.req_uuid is msgspec.UNSET)
    )
    told: Kind | None = "status" if is_status else "reply" if is_reply else None
    if posted_as is None:
        if told is None:
            raise UnexpectedShape("neither a status callback ($.data) nor a reply ($.reply_message_id): $")
        return told
    # Where the two URLs were mixed up, or one was given for both, nothing is lost by it.
    return posted_as if told is None or (is_status if posted_as == "status" else is_reply) else told


def _is_given(part: msgspec.Raw | msgspec.UnsetType) -> bool:
    return not isinstance(part, msgspec.UnsetType) and bytes(part) not in (b"null", b'""', b"[]", b"{}")


def _faults(parts: Sequence[msgspec.Raw]) -> Stepwise[tuple[RecordFault, ...]]:
    """Find the records that cannot be read, each decoded by itself where not all of a step can be."""
    faults: list[RecordFault] = []
    for begin in range(0, len(parts), RECORDS_PER_STEP):
        step = parts[begin : begin + RECORDS_PER_STEP]
        try:
            _decode_records(json_array(step))
        except msgspec.DecodeError:
            faults += _faults_of(step, begin)
            if len(faults) > MAX_FAULTS:
                why = "; ".join(summarize(faults[: MAX_FAULTS + 1]))
                raise UnexpectedShape(f"more than {MAX_FAULTS} records cannot be read: {why}") from None
        yield
    return tuple(faults)


def _faults_of(parts: Sequence[msgspec.Raw], begin: int) -> Iterator[RecordFault]:
    for index, part in enumerate(parts, start=begin):
        try:
            _record(part, index)
        except UnexpectedShape as exc:
            yield RecordFault(index, str(exc))


def _record(part: msgspec.Raw, index: int = 0) -> Record:
    return json_reader.read_struct(Record, _decode_record, part, f"$.data[{index}]")


def _envelope(head: Head, *, records: int) -> StatusEnvelope:
    given = {"api_job_id": head.api_job_id, "client_job_id": head.client_job_id}
    values = {
        key: json_reader.decode(_decode_any, part, f"$.{key}")
        for key, part in given.items()
        if not isinstance(part, msgspec.UnsetType)
    }
    envelope = json_reader.convert(values, StatusEnvelope, "$")
    # As text, not as it was escaped: \u00fc stands for one character, and in the events it is one.
    characters = sum(0 if value is None else len(str(value)) for value in (envelope.api_job_id, envelope.client_job_id))
    if characters * records > _MOST_ENVELOPE_CHARACTERS:
        raise UnexpectedShape("api_job_id and client_job_id are too long for so many records: $.data")
    return envelope


class ReadableRecords(Struct, frozen=True):
    """The readable ones of a bundle's records, decoded a step at a time: all at once fill the memory of a worker."""

    parts: list[msgspec.Raw]
    at_fault: frozenset[int]

    def __len__(self) -> int:
        return len(self.parts) - len(self.at_fault)

    def __iter__(self) -> Iterator[tuple[Record, dict[str, Any]]]:
        for begin in range(0, len(self.parts), RECORDS_PER_STEP):
            step = self.parts[begin : begin + RECORDS_PER_STEP]
            if self.at_fault:
                step = [part for index, part in enumerate(step, start=begin) if index not in self.at_fault]
            yield from _decoded(step)

    def __contains__(self, item: object) -> bool:
        return any(item == each for each in self)


def _decoded(parts: Sequence[msgspec.Raw]) -> Iterator[tuple[Record, dict[str, Any]]]:
    together = json_array(parts)
    if json_reader.count_brackets(together) - len(parts) <= json_reader.MAX_DEPTH:
        try:
            return zip(_decode_records(together), _decode_list(together), strict=True)
        except msgspec.DecodeError:
            pass
    return ((_record(part), json_reader.read_raw_object(part)) for part in parts)


def json_array(parts: Sequence[msgspec.Raw]) -> bytes:
    """Return the JSON array of `parts`."""
    return b"[%b]" % b",".join(parts)


def decode_text(body: bytes) -> str:
    """Return `body` as text. Raises NotJson where it is not UTF-8: RFC 8259, section 8.1, allows nothing else."""
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise NotJson(f"the body is not UTF-8: {exc.reason} at byte {exc.start}") from exc


def summarize(faults: Sequence[RecordFault], *, limit: int = 3) -> Iterator[str]:
    """Yield what is wrong with the first few of the records that cannot be read, and how many more there are."""
    yield from (fault.error for fault in faults[:limit])
    if len(faults) > limit:
        yield f"and {len(faults) - limit} more records"
