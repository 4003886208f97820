"""JSON read part by part: an error names the path, and a key that nobody knows costs nothing, whatever it holds.

Nothing here depends on how much of Python's recursion limit the caller has used, as the web process and a worker have
to judge alike: up to MAX_DEPTH a value is decoded; up to MAX_NESTING it stays the text that it is; what is nested
deeper is refused whole.
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

# What is nested deeper has no meaning here.
MAX_DEPTH: Final = 100
# Half of Python's recursion limit (1000): the other half is for the frames of the caller.
MAX_NESTING: Final = 500

# A value of more objects and arrays stays its text: made Python's, each takes 70 bytes and more.
_MAX_BRACKETS: Final = 100_000
# A token takes about 0.2 µs.
_TOKENS_PER_STEP: Final = 20_000
_TOKENS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],]', re.DOTALL)
_STEPS: Final = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_decode_any = msgspec.json.Decoder().decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode(decoder: Callable[[Any], T], part: bytes | msgspec.Raw, at: str) -> T:
    """Return what `decoder` makes of `part`, which stands at the path `at`.

    Raises NotJson, or UnexpectedShape where it is JSON of another type or beyond what can be read.
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
    """Return the values of an object by their keys, each unread. Raises as `decode` does."""
    return decode(_decode_object, part, at)


def read_struct(struct: type[S], decoder: Callable[[Any], S], part: bytes | msgspec.Raw, at: str) -> S:
    """Return `part` as `struct`, whose `decoder` reads it at once where nothing is unusual. Raises as `decode` does.

    Of a key given twice the last counts, so what stands under the first may be anything.
    """
    try:
        return decoder(part)
    except msgspec.DecodeError:
        given = read_members(part, at)
    fields = msgspec.structs.fields(struct)
    names = [field.encode_name for field in fields if field.encode_name in given]
    values = {name: decode(_decode_any, given[name], f"{at}.{name}") for name in names}
    return convert(values, struct, at)


def convert(values: dict[str, Any], struct: type[S], at: str) -> S:
    """Return decoded values as `struct`. Raises UnexpectedShape with the path of what is missing or of another type."""
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as exc:
        why, below = _split_message(exc)
        if not below:
            # msgspec names the object in which a key is missing; a reader wants the key's own path.
            missing = next((name for name in _required_keys(struct) if name not in values), None)
            if missing is not None:
                why, below = "missing required key", f".{missing}"
        raise UnexpectedShape(f"{why}: {at}{below}") from exc


def read_raw_object(part: bytes | msgspec.Raw) -> dict[str, Any]:
    """Return an object, which can be read, as it was received; what nobody can hold of it stays the text that it is."""
    if count_brackets(part) <= MAX_DEPTH:
        # What fails is a number beyond a double's range, or of more digits than Python converts.
        with contextlib.suppress(msgspec.DecodeError):
            return cast(dict[str, Any], _decode_any(part))
    return {key: read_value_or_text(value) for key, value in _decode_object(part).items()}


def read_value_or_text(part: msgspec.Raw) -> Any:
    """Return a value, or its text where it is nested too deeply, too large or has a number that cannot be held."""
    data = bytes(part)
    opening = count_brackets(data)
    if opening > _MAX_BRACKETS:
        return data.decode()
    try:
        value = _decode_any(data)
    except (msgspec.DecodeError, RecursionError):
        return data.decode()
    return data.decode() if opening > MAX_DEPTH and _depth(value) > MAX_DEPTH else value


def count_brackets(part: bytes | msgspec.Raw) -> int:
    """Return how many brackets open in `part`: it is nested no deeper than that."""
    data = bytes(part)
    return data.count(b"{") + data.count(b"[")


def check_nesting(body: bytes, *, records: int) -> Stepwise[None]:
    """Raise UnexpectedShape where `body`, in which each of `records` has a bracket, is nested beyond MAX_NESTING."""
    # Even if all brackets but the other records' were within each other, it would not be.
    if count_brackets(body) - records < MAX_NESTING:
        return
    depth = 0
    for number, token in enumerate(_TOKENS.finditer(body), start=1):
        if number % _TOKENS_PER_STEP == 0:
            yield
        depth += _STEPS.get(token[0], 0)
        if depth > MAX_NESTING:
            raise _too_deep()


def has_more_elements(array: bytes, most: int) -> Stepwise[bool]:
    """Return whether an array, which is JSON, has more than `most` elements, without making an object of each."""
    depth, elements = 0, 1
    for number, token in enumerate(_TOKENS.finditer(array), start=1):
        if number % _TOKENS_PER_STEP == 0:
            yield
        if depth == 1 and token[0] == b",":
            elements += 1
            if elements > most:
                return True
        depth += _STEPS.get(token[0], 0)
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
    why, _, path = str(exc).partition(" - at `$")
    path = path.removesuffix("`")
    if "matching regex" in why:  # of our own patterns there is one, and people do not read it
        why = "Expected a whole number, or its digits as text"
    return why.replace("`", ""), "" if path == "[...]" else path
