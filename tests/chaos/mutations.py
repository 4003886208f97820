"""Mutated bodies: those of the conformance set with a few bytes or values changed, also compressed and in charsets."""

import codecs
import gzip
import json
import random
import re
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from shared.schema import Kind
from tests import payload_cases
from tests.payload_cases import PAYLOADS

_PIECES: Final = (
    b"null", b"true", b"[]", b"{}", b'""', b"0", b"-1", b"1e999", b"9" * 30, b'"\\ud83d"', b'"\\u0000"', b"\xff",
    b"\xef\xbb\xbf", b"[" * 120, b"]" * 120, b'"data":', b'"status":', b'"message_id":', b'"reply_message_id":', b",",
    b":", b"\\", b'"', b"NaN", b"\n", b"\0", b'{"data":[{"message_id":"1","status":"A"}]}', b'"2015-09-25T07:12:54Z"',
)  # fmt: skip
# A value of an object, and what takes its place besides other values of the same body.
_VALUE: Final = re.compile(rb'(?<=:)(?:"(?:[^"\\]|\\.)*"|[-+.0-9eE]+|true|false|null)')
_VALUES: Final = (
    b"null", b"true", b"[]", b"{}", b'""', b'" "', b"0", b"-1", b"0.5", b"1e5", b"1e400", b"9" * 30, b'["1"]',
    b'"%b"' % (b"9" * 200), b'"%b"' % (b"x" * 2000), b"[" * 120 + b"]" * 120, b'"\\ud83d"', b'"\\u0000"', b'"NaN"',
    b'{"text":1}', b'"{\\"text\\":1}"', b'"2015-09-25T07:12:54Z"', b'"DELIVRD"',
)  # fmt: skip
_JSON: Final = "application/json"
_KINDS: Final[tuple[Kind | None, ...]] = ("status", "reply", None)


class Posted(NamedTuple):
    """A body with the headers that describe it, and the kind of its URL."""

    body: bytes
    headers: dict[str, str]
    kind: Kind | None


_SEEDS: Final = [(post.body, post.headers) for case in payload_cases.load() for post in case.posts] + [
    (path.read_bytes(), {"Content-Type": _JSON}) for path in sorted(PAYLOADS.glob("*.json"))
]
_READABLE: Final = [body for body, _ in _SEEDS if body.lstrip().startswith((b"{", b"[", b'"'))]


def _deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


def _in(charset: str) -> Callable[[bytes], bytes]:
    return lambda body: body.decode(errors="replace").encode(charset, "replace")


_ENCODINGS: Final[tuple[tuple[dict[str, str], Callable[[bytes], bytes]], ...]] = (
    ({"Content-Encoding": "gzip"}, lambda body: gzip.compress(body, compresslevel=1)),
    ({"Content-Encoding": "deflate"}, lambda body: zlib.compress(body, level=1)),
    ({"Content-Encoding": "deflate"}, _deflate),
    ({"Content-Encoding": "gzip"}, lambda body: gzip.compress(_in("utf-16")(body), compresslevel=1)),
    ({"Content-Type": f"{_JSON}; charset=latin-1"}, _in("latin-1")),
    ({"Content-Type": f"{_JSON}; charset=windows-1252"}, _in("cp1252")),
    ({"Content-Type": f"{_JSON}; charset=utf-16"}, _in("utf-16")),
    ({"Content-Type": f"{_JSON}; charset=utf-16be"}, _in("utf-16-be")),
    ({}, _in("utf-16-le")),
    ({}, lambda body: codecs.BOM_UTF8 + body),
)


def mutated(chance: random.Random) -> bytes:
    """Return a readable body of the set with a few of its bytes cut, doubled, swapped or replaced."""
    return _mutate(chance.choice(_READABLE), chance, changes=chance.randint(1, 4))


def posted(chance: random.Random) -> Posted:
    """Return a mutated body as it is posted: plain, in another shape or encoding, or a changed one of the set."""
    way = chance.random()
    if way < 0.2:
        # What is compressed is mostly damaged by this.
        body, headers = chance.choice(_SEEDS)
        body = _mutate(body, chance, changes=chance.randint(0, 2))
        return Posted(body, headers if chance.random() < 0.8 else chance.choice(_SEEDS)[1], chance.choice(_KINDS))
    body, headers = mutated(chance), {"Content-Type": _JSON}
    if way < 0.4:
        body = _reshape(body, chance)
    elif way < 0.6:
        added, encode = chance.choice(_ENCODINGS)
        body, headers = encode(body), headers | added
        if chance.random() < 0.2:
            body = _mutate(body, chance, changes=1)
    return Posted(body, headers, chance.choice(_KINDS))


def _reshape(body: bytes, chance: random.Random) -> bytes:
    way = chance.randrange(4)
    if way == 0:
        return b"[%b,%b]" % (body, chance.choice(_READABLE))
    if way == 1:
        return b"%b\n%b" % (chance.choice(_READABLE), body)
    if way == 2:
        return json.dumps(body.decode(errors="replace")).encode()
    return b'{"data":[%b,%b]}' % (body, json.dumps(body.decode(errors="replace")).encode())


def _mutate(given: bytes, chance: random.Random, *, changes: int) -> bytes:
    body = bytearray(given)
    for _ in range(changes):
        begin = chance.randrange(len(body) + 1)
        end = min(len(body), begin + chance.choice((0, 1, 2, 8, 64)))
        kind = chance.randrange(10)
        if kind > 3:
            values = [*_VALUE.finditer(body)]
            if values:
                replaced, other = chance.choice(values), chance.choice(values)
                body[slice(*replaced.span())] = chance.choice((*_VALUES, other[0]))
        elif kind == 0:
            body[begin:end] = chance.choice(_PIECES)
        elif kind == 1:
            del body[begin:end]
        elif kind == 2:
            body[begin:begin] = body[begin:end]
        elif body and begin < len(body):
            body[begin] = chance.randrange(256)
    return bytes(body)
