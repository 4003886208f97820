"""Reading JSON part by part: an error names its path, and an unknown key costs nothing, whatever it holds.

The result never depends on how much of Python's recursion limit the caller has used, as the web process and a worker
must judge alike: up to MAX_DEPTH a value is decoded; up to MAX_NESTING it stays text; what is nested deeper is refused.
"""

import contextlib
import functools
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import Struct

from shared.cooperative import Stepwise
from shared.errors import NotJson, UnexpectedShape

T = TypeVar("T")
S = TypeVar("S", bound=Struct)

# No real value is nested deeper.
MAX_DEPTH: Final = 100
# Half of Python's recursion limit (1000): the other half is for the frames of the caller.
MAX_NESTING: Final = 500

# A value with more objects and arrays stays text: as a Python object each takes 70 bytes or more.
_MAX_BRACKETS: Final = 100_000
# How many JSON strings, one in the other, are read as the JSON that they hold: a sender that encodes twice makes one.
MAX_TEXTS: Final = 3
# Marks of UTF-8, blanks, and the byte with which C ends a text.
_AROUND: Final = b"\x00 \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
# A token takes about 0.2 µs.
_TOKENS_PER_STEP: Final = 20_000
_TOKENS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],]', re.DOTALL)
_NUMBERED: Final = re.compile(rb'\{[ \t\r\n]*"[0-9]+"')
_NUMBERED_KEY: Final = re.compile(rb'[ \t\r\n]*"[0-9]+"[ \t\r\n]*:[ \t\r\n]*')
_DEPTH_CHANGES: Final = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
# What stands before the next escaped surrogate: other bytes and other escapes. Possessive, as otherwise 4 MiB of
# backslashes would take seconds, and 250 MiB for the matches.
_NO_SURROGATES: Final = re.compile(rb"(?:[^\\]++|\\(?!u[dD][89a-fA-F][0-9a-fA-F]{2}).?+){1,20000}+", re.DOTALL)
_SURROGATE_PAIR: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_ESCAPE_BYTES: Final = len(rb"\ud83d")
# A match takes about 0.5 µs, or 0.5 ms if it has 20,000 escapes.
_MATCHES_PER_STEP: Final = 10_000
_BYTES_PER_STEP: Final = 1 << 18
_decode_any = msgspec.json.Decoder().decode
_decode_string = msgspec.json.Decoder(str).decode
_validate = msgspec.json.Decoder(msgspec.Raw).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode_text(body: bytes) -> str:
    """Return `body` as text. Raise NotJson if it is not UTF-8: RFC 8259, section 8.1, allows nothing else."""
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise NotJson(f"the body is not UTF-8: {exc.reason} at byte {exc.start}") from exc


def replace_lone_surrogates(body: bytes) -> Stepwise[bytes]:
    r"""Return `body` with U+FFFD for each escaped half of a surrogate pair (\ud83d).

    It is JSON by the grammar, but not text (RFC 8259, section 8.2). A sender that cuts texts at a length cuts emoji in
    two, and one of these must not make the rest of a bundle unreadable.
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    text = bytearray()
    # `begin`: up to where `text` has the body. `pause`: where the next step begins.
    at = begin = pause = matches = 0
    while at < len(body):
        matches += 1
        if matches % _MATCHES_PER_STEP == 0 or at > pause:
            pause = at + _BYTES_PER_STEP
            yield
        found = _NO_SURROGATES.match(body, at) or _SURROGATE_PAIR.match(body, at)
        if found is not None:
            at = found.end()
            continue
        text += body[begin:at]
        text += b"\\ufffd"
        begin = at = at + _ESCAPE_BYTES
    return bytes(text + body[begin:]) if begin else body


def trim(body: bytes) -> bytes:
    """Return `body` without what some senders put around JSON: marks of UTF-8, blanks, NUL."""
    body = body.strip(_AROUND)
    while body.startswith(_BOM):
        body = body.removeprefix(_BOM).lstrip(_AROUND)
    return body


def check_json(part: bytes) -> None:
    """Raise NotJson if `part` is not JSON by the grammar, UnexpectedShape if it is nested too deeply to be known."""
    decode(_validate, part, "$")


def is_json(part: bytes) -> bool:
    """Return whether `part` is JSON by the grammar, and not nested too deeply to be known."""
    try:
        check_json(part)
    except (NotJson, UnexpectedShape):
        return False
    return True


def read_nested(part: bytes) -> Stepwise[bytes | None]:
    """Return the object or array that the JSON string `part` holds as text; None if it holds none."""
    for _ in range(MAX_TEXTS):
        part = yield from replace_lone_surrogates(part)
        try:
            text = _decode_string(part)
        except msgspec.DecodeError:
            return None
        yield
        part = trim(text.encode())
        if not part.startswith(b'"'):
            break
    if not part.startswith((b"{", b"[")):
        return None
    part = yield from replace_lone_surrogates(part)
    yield
    return part if is_json(part) else None


def decode(decoder: Callable[[Any], T], part: bytes | msgspec.Raw, at: str) -> T:
    """Return what `decoder` makes of `part`, which stands at the path `at`.

    Raise NotJson, or UnexpectedShape if it is JSON of another type or cannot be read.
    """
    try:
        return decoder(part)
    except msgspec.ValidationError as exc:  # JSON by the grammar, but of another type, or beyond a double's range
        why, below = _split_message(exc)
        raise UnexpectedShape(f"{why}: {at}{below}") from exc
    except msgspec.DecodeError as exc:
        raise NotJson(f"the body is not JSON: {exc}" if part else "the body is empty") from exc
    except RecursionError as exc:
        raise _too_deep() from exc


def read_members(part: bytes | msgspec.Raw, at: str) -> dict[str, msgspec.Raw]:
    """Return the values of an object by their keys, undecoded. Raise as `decode` does."""
    return decode(_decode_object, part, at)


def begins_numbered(part: bytes) -> bool:
    """Return whether `part` is an object whose first key is a number."""
    return _NUMBERED.match(part) is not None


def read_numbered(part: bytes, at: str) -> Stepwise[list[msgspec.Raw] | None]:
    """Return the values of an object whose keys are all numbers, undecoded; None of any other. Raise as `decode` does.

    Found in steps, as a dict of 200,000 takes 100 ms; and it would lose values if a key is repeated.
    """
    decode(_validate, part, at)
    yield
    values: list[msgspec.Raw] = []
    depth, begin = 0, 1
    for number, token in enumerate(_TOKENS.finditer(part), start=1):
        if number % _TOKENS_PER_STEP == 0:
            yield
        depth += _DEPTH_CHANGES.get(token[0], 0)
        if depth > 1 or (depth == 1 and token[0] != b","):
            continue
        key = _NUMBERED_KEY.match(part, begin, token.start())
        if key is None:
            return None
        values.append(msgspec.Raw(part[key.end() : token.start()].rstrip(_AROUND)))
        begin = token.end()
    return values


def convert(values: dict[str, Any], struct: type[S], at: str) -> S:
    """Return decoded values as `struct`. Raise UnexpectedShape with the path of what is missing or of another type."""
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as exc:
        why, below = _split_message(exc)
        if not below:
            # msgspec names the object in which a key is missing; a reader wants the path of the key.
            missing = next((name for name in _required_keys(struct) if name not in values), None)
            if missing is not None:
                why, below = "missing required key", f".{missing}"
        raise UnexpectedShape(f"{why}: {at}{below}") from exc


def read_raw_object(part: bytes | msgspec.Raw) -> dict[str, Any]:
    """Return a readable object as it was received. A value that Python cannot hold stays text."""
    if count_brackets(part) <= MAX_DEPTH:
        # It fails for a number beyond a double's range, or with more digits than Python converts.
        with contextlib.suppress(msgspec.DecodeError):
            return cast(dict[str, Any], _decode_any(part))
    return {key: read_value_or_text(value) for key, value in _decode_object(part).items()}


def read_value_or_text(part: msgspec.Raw) -> Any:
    """Return a value; or its text, if it is nested too deeply, is too large or has a number that Python cannot hold."""
    data = bytes(part)
    brackets = count_brackets(data)
    if brackets > _MAX_BRACKETS:
        return data.decode()
    try:
        value = _decode_any(data)
    except (msgspec.DecodeError, RecursionError):
        return data.decode()
    return data.decode() if brackets > MAX_DEPTH and _depth(value) > MAX_DEPTH else value


def count_brackets(part: bytes | msgspec.Raw) -> int:
    """Return how many brackets open in `part`. It is not nested deeper than that."""
    data = bytes(part)
    return data.count(b"{") + data.count(b"[")


def check_nesting(body: bytes, *, records: int) -> Stepwise[None]:
    """Raise UnexpectedShape if `body`, in which each of `records` has a bracket, is nested deeper than MAX_NESTING."""
    # The brackets of the other records cannot be nested in each other.
    if count_brackets(body) - records < MAX_NESTING:
        return
    depth = 0
    for number, token in enumerate(_TOKENS.finditer(body), start=1):
        if number % _TOKENS_PER_STEP == 0:
            yield
        depth += _DEPTH_CHANGES.get(token[0], 0)
        if depth > MAX_NESTING:
            raise _too_deep()


def has_more_elements(array: bytes, limit: int) -> Stepwise[bool]:
    """Return whether a JSON array has more than `limit` elements, without making an object of each."""
    depth, elements = 0, 1
    for number, token in enumerate(_TOKENS.finditer(array), start=1):
        if number % _TOKENS_PER_STEP == 0:
            yield
        if depth == 1 and token[0] == b",":
            elements += 1
            if elements > limit:
                return True
        depth += _DEPTH_CHANGES.get(token[0], 0)
    return False


def _too_deep() -> UnexpectedShape:
    return UnexpectedShape(f"nested deeper than {MAX_NESTING}: $")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            item
            for parent in level
            if isinstance(parent, dict | list)
            for item in (parent.values() if isinstance(parent, dict) else parent)
        ]
    return depth


@functools.cache
def _required_keys(struct: type[Struct]) -> tuple[str, ...]:
    return tuple(field.encode_name for field in msgspec.structs.fields(struct) if field.required)


def _split_message(exc: msgspec.ValidationError) -> tuple[str, str]:
    """Return what is wrong, and the path below the value that was decoded."""
    why, _, path = str(exc).partition(" - at `$")
    path = path.removesuffix("`")
    if "matching regex" in why:  # there is one such pattern, and its regex is not for readers
        why = "Expected a whole number, or its digits as text"
    return why.replace("`", ""), "" if path == "[...]" else path
