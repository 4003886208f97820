r"""Bodies in other shapes than the documented one: lists of callbacks or of records, and JSON inside a JSON string.

Who accepts a body that `shared.wire` cannot read asks here for the documented callbacks that it holds, and accepts each
of these: workers, quarantine and replay know documented callbacks only. Other shapes are

    [callback, callback]       also replies, and both kinds together
    [record, record]           without the object around it; also one record alone
    "{\"data\": …}"              a string that holds JSON as text, also as an element of a list
    {"0": callback, "2": …}    a list with gaps as PHP writes it: an object whose keys are all numbers
    callback ⏎ callback        a callback on each line
    callback NUL               and blanks or marks of UTF-8 around it

in each other up to MAX_LEVELS. `data` that is one record, a string or a list with gaps is no other shape: `shared.wire`
reads it.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from shared import body_parser, json_reader, wire
from shared.cooperative import Stepwise
from shared.errors import NotJson, UnexpectedShape
from shared.schema import Kind

# With more of them the body is quarantined whole: each is an entry of its own in the commit.
MAX_CALLBACKS: Final = 1000
# Lists and strings in each other: a string that holds a list of strings has three.
MAX_LEVELS: Final = 4
# An element takes about 3 µs.
_ELEMENTS_PER_STEP: Final = 1000
# A copy takes about 0.2 µs.
_COPIES_PER_STEP: Final = 20_000

# How a line begins that is a document of its own.
_LINES: Final = (b"{", b"[", b'"')


class _Keys(Struct, frozen=True, gc=False):
    """The keys by which callbacks and records differ, undecoded."""

    data: Raw | UnsetType = UNSET
    reply_message_id: Raw | UnsetType = UNSET
    req_uuid: Raw | UnsetType = UNSET
    message_id: Raw | UnsetType = UNSET
    status: Raw | UnsetType = UNSET


_decode_keys: Final = msgspec.json.Decoder(_Keys).decode


class Part(Struct, frozen=True):
    """A documented callback of a body in another shape: `shape` as `wire.check` has it; None if `error` says why."""

    body: bytes
    shape: wire.Shape | None
    error: str = ""


def split(body: bytes, kind: Kind | None, error: NotJson | UnexpectedShape) -> Stepwise[list[Part]]:
    """Return the documented callbacks that `body`, posted as `kind`, holds; none if it is in no other shape.

    `error`: why `wire.check` cannot read it. Raise NotJson, and UnexpectedShape if it is in another shape and none of
    its callbacks can be read.
    """
    plain = json_reader.trim(body)
    is_object = plain.startswith(b"{") and not json_reader.begins_numbered(plain)
    if is_object and len(plain) > wire.SMALL_BODY_BYTES and isinstance(error, UnexpectedShape):
        return []  # too large for one record alone
    json_reader.decode_text(plain)
    yield
    plain = yield from json_reader.replace_lone_surrogates(plain)
    yield
    try:
        callbacks = yield from _find_callbacks(plain)
    except UnexpectedShape:
        return []
    if callbacks == [body]:
        return []
    if len(callbacks) > MAX_CALLBACKS:
        raise UnexpectedShape(f"more than {MAX_CALLBACKS} callbacks: $")
    parts: list[Part] = []
    for number, callback in enumerate(callbacks, start=1):
        yield
        try:
            shape = yield from wire.check_stepwise(callback, kind)
        except (NotJson, UnexpectedShape) as exc:
            where = f" (callback {number} of {len(callbacks)})" if len(callbacks) > 1 else ""
            parts.append(Part(callback, None, f"{exc}{where}"))
        else:
            parts.append(Part(callback, shape))
    if parts and not any(part.shape for part in parts):
        raise UnexpectedShape("; ".join(summarize(parts)))
    return parts


def summarize(parts: Sequence[Part]) -> list[str]:
    """Return the errors of the first few callbacks that cannot be read, and of records of others."""
    faults = [body_parser.RecordFault(0, part.error) for part in parts if part.shape is None]
    faults += [fault for part in parts if part.shape is not None for fault in part.shape.faults]
    return list(body_parser.summarize(faults))


def _find_callbacks(body: bytes) -> Stepwise[list[bytes]]:
    """Return the documented callbacks in `body`, in order; adjacent records become one. Raise as `_flatten` does."""
    try:
        elements = yield from _flatten([body])
        if elements == [body] and not _is_record(body):
            return elements
    except NotJson:
        lines = yield from _split_lines(body)
        if not lines:
            raise
        elements = yield from _flatten(lines)
    callbacks: list[bytes] = []
    records: list[bytes] = []
    for number, element in enumerate(elements, start=1):
        if number % _ELEMENTS_PER_STEP == 0:
            yield
        if not _is_callback(element):
            records.append(element)
            continue
        if records:
            callbacks.append(_bundle(records))
            records = []
        callbacks.append(element)
    return [*callbacks, _bundle(records)] if records else callbacks


def _flatten(documents: Sequence[bytes]) -> Stepwise[list[bytes]]:
    """Return what is in the lists and strings of `documents`, in order. Raise NotJson and UnexpectedShape."""
    found: list[bytes] = []
    # What is left to do, the next one last, each with the number of lists and strings around it.
    left = [(document, 0) for document in reversed(documents)]
    number = 0
    while left:
        number += 1
        if number % _ELEMENTS_PER_STEP == 0:
            yield
        part, level = left.pop()
        if level < MAX_LEVELS and (part.startswith(b"[") or json_reader.begins_numbered(part)):
            elements = yield from body_parser.split_array(part, "$")
            if level == 0:
                yield
            # Reversed, as the last one is taken first.
            for end in range(len(elements), 0, -_COPIES_PER_STEP):
                step = elements[max(0, end - _COPIES_PER_STEP) : end]
                left += [(bytes(element), level + 1) for element in reversed(step)]
                if end > _COPIES_PER_STEP:
                    yield
            continue
        nested = None
        if level < MAX_LEVELS and part.startswith(b'"'):
            nested = yield from json_reader.read_nested(part)
        if nested is None:
            found.append(part)
        else:
            left.append((nested, level + 1))
    return found


def _split_lines(body: bytes) -> Stepwise[list[bytes]]:
    """Return the JSON documents on the lines of `body`; none if a line is none."""
    if body.count(b"\n") > len(body) // body_parser.MIN_RECORD_BYTES + body_parser.MAX_FAULTS:
        return []
    lines: list[bytes] = []
    yield
    for number, line in enumerate(body.split(b"\n"), start=1):
        plain = json_reader.trim(line)
        if plain:
            lines.append(plain)
        if number % _COPIES_PER_STEP == 0:
            yield
    if len(lines) < 2:  # noqa: PLR2004 # one line is the body that was tried
        return []
    for number, line in enumerate(lines, start=1):
        if not line.startswith(_LINES) or not json_reader.is_json(line):
            return []
        if number % _ELEMENTS_PER_STEP == 0:
            yield
    return lines


def _is_callback(element: bytes) -> bool:
    """Return whether an element of a list is a callback. What is neither callback nor record counts as a record."""
    if not element.startswith(b"{"):
        return False
    keys = json_reader.decode(_decode_keys, element, "$")
    is_reply = keys.reply_message_id is not UNSET or (keys.req_uuid is not UNSET and keys.message_id is UNSET)
    return keys.data is not UNSET or is_reply


def _is_record(element: bytes) -> bool:
    """Return whether the one element of a body is a record, not a callback. Raise NotJson and UnexpectedShape."""
    if not element.startswith(b"{"):
        json_reader.check_json(element)  # before it is of another type: it may be cut short
    keys = json_reader.decode(_decode_keys, element, "$")
    return not _is_callback(element) and keys.message_id is not UNSET and keys.status is not UNSET


def _bundle(records: Sequence[bytes]) -> bytes:
    return b'{"data":[%b]}' % b",".join(records)
