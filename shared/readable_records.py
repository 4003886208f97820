"""The readable records of a callback, decoded a step at a time, and each with the JSON that it was read from.

That JSON is an object which all our readers can decode: as received, or, of an unusual record, decoded and encoded
again.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from shared import field_readers, json_reader
from shared.cooperative import run_to_end
from shared.schema import DocumentedRecord, PlainRecord, Record

# The work of a step, if nothing is unusual in its records: 0.2 ms. One by one they take 20 µs each, or more.
RECORDS_PER_STEP: Final = 500
# A record that is an object inside a JSON string is read at once, if it is no larger than this.
_MAX_NESTED_BYTES: Final = 64 << 10
# As integers: `in` reads a `bytes` operand only after it has tried it as an integer.
_BACKSLASH: Final = ord("\\")
_LINE_FEED: Final = ord("\n")

_encode = msgspec.json.Encoder().encode
_decode_objects = msgspec.json.Decoder(list[dict[str, Any]]).decode
_decode_record = msgspec.json.Decoder(Record).decode
decode_records = msgspec.json.Decoder(list[Record]).decode
_decode_plain_records = msgspec.json.Decoder(list[PlainRecord]).decode
_decode_documented_records = msgspec.json.Decoder(list[DocumentedRecord]).decode


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
    array = join(parts)
    if is_plain(array):
        for decode in (_decode_plain_records, _decode_documented_records):
            with contextlib.suppress(msgspec.DecodeError):
                return zip(decode(array), parts, strict=True)
    if json_reader.count_brackets(array) - len(parts) <= json_reader.MAX_DEPTH:
        with contextlib.suppress(msgspec.DecodeError):
            return zip(decode_records(array), map(to_raw, _decode_objects(array)), strict=True)
    return (
        (read_record(part, unreadable_fields=unreadable_fields), to_raw(json_reader.read_raw_object(_as_object(part))))
        for part in parts
    )


def read_record(part: msgspec.Raw, index: int = 0, unreadable_fields: Counter[str] | None = None) -> Record:
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
    if not text.startswith(b'"') or len(text) > _MAX_NESTED_BYTES:
        return part
    nested = run_to_end(json_reader.read_nested(text))
    return nested if nested is not None and json_reader.count_brackets(nested) <= json_reader.MAX_DEPTH else part


def is_plain(part: bytes) -> bool:
    """Return whether JSON with documented keys only is stored as it was received.

    Without an escape, as all that searches what is stored compares texts; and without indentation, which would fill
    Redis.
    """
    return _BACKSLASH not in part and _LINE_FEED not in part


def to_raw(value: dict[str, Any]) -> msgspec.Raw:
    """Return the value's JSON."""
    return msgspec.Raw(_encode(value))


def join(parts: Sequence[msgspec.Raw]) -> bytes:
    """Return the JSON array of `parts`."""
    return b"[%b]" % b",".join(parts)
