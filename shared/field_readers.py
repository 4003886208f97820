"""Reading the fields of a record that is not written as documented: each value that can be understood counts.

A record needs what identifies it. Any other field that cannot be read is None: it costs neither the record nor the
bundle, and stays in the event's `raw`.

| fields | understood | otherwise |
|---|---|---|
| `message_id`, `status` | a text that is not empty; a number, as its digits | the record cannot be read |
| ids, numbers, senders, `type`, `channel` | a text; a number, as its digits | None |
| `timestamp`, `micro_timestamp` | a number with or without a fraction or an exponent, also as text; RFC 3339 | None |
| `error_code` | a whole number, also as text or with a fraction of zero | None |
| `message` | an object with `text`; a text; a number; `[]`, `{}` and `""` as no text | None |

The usual record never comes here: msgspec reads it at once, with the types of `shared.schema`.
"""

import functools
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from shared import json_reader
from shared.schema import MAX_ENVELOPE_TEXT, ReplyMessage

S = TypeVar("S", bound=Struct)

# No number that means something has more characters. Decimal would take seconds for one of a megabyte.
_MAX_NUMBER_CHARACTERS: Final = 64
# As many characters as the gateway gives an id.
_MAX_TEXT_OF_NUMBER: Final = 255
# Beyond it neither a double nor a calendar has anything.
_MAX_EXPONENT: Final = 400
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
# RFC 3339, section 5.6, and what ISO 8601 allows beyond it: a time without a zone, which then is in UTC.
_RFC3339: Final = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<minutes>[0-9]{2}:[0-9]{2})"
    r"(?::(?P<seconds>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,12}))?)? ?(?P<zone>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_MICROSECONDS: Final = 10**6
# From 10^8 seconds (March 1973) on, the number of microseconds shows its unit by its size (see `normalize.unix_ms`).
_MIN_SECONDS_OF_MICROSECONDS: Final = 10**8
_MAX_MICROSECONDS: Final = 10**17
_MAX_CODE: Final = 10**17

_decode: Final = msgspec.json.Decoder().decode


class _RawMessage(Struct, frozen=True, gc=False):
    text: Raw = Raw(b"null")


_decode_raw_message: Final = msgspec.json.Decoder(_RawMessage).decode


class Unreadable(Exception):
    """The value of a field means nothing that we know."""


def read(struct: type[S], part: bytes | Raw, at: str) -> tuple[S, tuple[str, ...]]:
    """Return the object `part`, which stands at the path `at`, as `struct`, and the names of its unreadable fields.

    If a key is repeated, the last one counts. Raise NotJson, and UnexpectedShape if it is not an object or lacks what
    identifies it.
    """
    given = json_reader.decode(_decoder_of(struct), part, at)
    values: dict[str, Any] = {}
    unreadable = []
    for name, key, required in _fields_of(struct):
        value = getattr(given, name)
        if value is msgspec.UNSET:
            continue
        try:
            values[key] = _READERS.get(key, text)(value)
        except Unreadable:
            if required:
                values[key] = _wrong_value(value, f"{at}.{key}")
            else:
                unreadable.append(key)
    return json_reader.convert(values, struct, at), tuple(unreadable)


def _wrong_value(part: Raw, at: str) -> Any:
    """Return a value that causes the error of `part`; an array or object without its elements, which may be many."""
    first = bytes(memoryview(part)[:1])
    if first in (b"[", b"{"):
        return [] if first == b"[" else {}
    return json_reader.decode(_decode, part, at)


def text(part: Raw) -> str | int | None:
    """Return a text, or a number as its digits: 12.5 is "12.5", and 35679000123.0 is 35679000123. Raise Unreadable."""
    value = _value(part)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise Unreadable
    if isinstance(value, int):
        return value
    number = _number(_literal(part))
    # Twice what 64 bits hold: a longer number was never meant as digits.
    if number is not None and number == number.to_integral_value() and abs(number) < Decimal(10) ** 20:
        return int(number)
    literal = _literal(part)
    if len(literal) > _MAX_TEXT_OF_NUMBER:
        raise Unreadable
    return literal


def name(part: Raw) -> str | None:
    """Return a text, or a number as its digits. Raise Unreadable."""
    value = text(part)
    return None if value is None else str(value)


def envelope_text(part: Raw) -> str | int | None:
    """Do as `text`, up to MAX_ENVELOPE_TEXT characters, as each event of a bundle carries it."""
    value = text(part)
    if len(str(value)) > MAX_ENVELOPE_TEXT:
        raise Unreadable
    return value


def time(part: Raw) -> int | None:
    """Return a time as a whole number of seconds or microseconds since 1970, by its size. Raise Unreadable."""
    value = _value(part)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise Unreadable
    given = value.strip() if isinstance(value, str) else _literal(part)
    found = _RFC3339.fullmatch(given)
    seconds = _seconds_of_number(given) if found is None else _seconds_of_rfc3339(found)
    if abs(seconds) < _MIN_SECONDS_OF_MICROSECONDS:
        return int(seconds)
    microseconds = int(seconds * _MICROSECONDS)
    if abs(microseconds) > _MAX_MICROSECONDS:
        raise Unreadable
    return microseconds


def code(part: Raw) -> int | None:
    """Return a whole number. Raise Unreadable."""
    value = _value(part)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise Unreadable
    number = _number(value.strip() if isinstance(value, str) else _literal(part))
    if number is None or abs(number) > _MAX_CODE or number != number.to_integral_value():
        raise Unreadable
    return int(number)


def message(part: Raw) -> ReplyMessage | None:
    """Return a reply's message: an object with `text`, or the text itself; None if it has none. Raise Unreadable."""
    literal = bytes(part).strip()
    if literal.startswith(b"{"):
        part = json_reader.decode(_decode_raw_message, part, "$").text
    elif literal.startswith(b"["):
        if literal.strip(b"[] \t\r\n"):
            raise Unreadable
        return None
    content = text(part)
    return None if content is None else ReplyMessage(text=str(content))


_READERS: Final[Mapping[str, Callable[[Raw], Any]]] = {
    "status": name,
    "timestamp": time,
    "micro_timestamp": time,
    "error_code": code,
    "message": message,
}


def _value(part: Raw) -> Any:
    # Nothing with members is understood, and millions of them would take a second.
    if bytes(part).lstrip()[:1] in {b"{", b"["}:
        raise Unreadable
    try:
        return _decode(part)
    except msgspec.DecodeError:
        # Valid JSON, as the body was parsed before; so a number that Python does not hold.
        return Decimal(0)


@functools.cache
def _fields_of(struct: type[Struct]) -> tuple[tuple[str, str, bool], ...]:
    """Return name, key and whether it is required of each field."""
    return tuple((field.name, field.encode_name, field.required) for field in msgspec.structs.fields(struct))


@functools.cache
def _decoder_of(struct: type[Struct]) -> Callable[[bytes | Raw], Any]:
    """Return a decoder of these keys that leaves their values undecoded, and makes nothing of any other key."""
    fields = [
        (field.name, Raw | msgspec.UnsetType, msgspec.field(default=msgspec.UNSET, name=field.encode_name))
        for field in msgspec.structs.fields(struct)
    ]
    return msgspec.json.Decoder(msgspec.defstruct(f"Undecoded{struct.__name__}", fields, gc=False)).decode


def _literal(part: Raw) -> str:
    return str(bytes(part), encoding="utf-8").strip()


def _number(literal: str) -> Decimal | None:
    if len(literal) > _MAX_NUMBER_CHARACTERS or _NUMBER.fullmatch(literal) is None:
        return None
    number = Decimal(literal)
    return None if abs(number.adjusted()) > _MAX_EXPONENT else number


def _seconds_of_number(literal: str) -> Decimal:
    number = _number(literal)
    if number is None:
        raise Unreadable
    # The same sizes as in `normalize.unix_ms`.
    size = abs(number)
    return number if size < 10**11 else number.scaleb(-3) if size < 10**14 else number.scaleb(-6)


def _seconds_of_rfc3339(found: re.Match[str]) -> Decimal:
    # A leap second has no time of its own in Unix time: it is the second before it.
    seconds = "59" if found["seconds"] == "60" else found["seconds"] or "00"
    zone = "Z" if found["zone"] in (None, "z") else found["zone"]
    try:
        moment = datetime.fromisoformat(f"{found['date']}T{found['minutes']}:{seconds}{zone}")
        return Decimal(int(moment.timestamp())) + Decimal(f"0.{found['fraction'] or 0}")
    except (ValueError, OverflowError):
        raise Unreadable from None
