"""Undoing what a body's headers say was done to it: compression, and a charset other than UTF-8.

Bounded like every body: what gzip makes of a few bytes may have the size limit and not one byte more, and it is made in
steps, so that no other request waits for it.
"""

import zlib
from collections.abc import Sequence
from typing import Final

from shared.cooperative import Stepwise
from shared.errors import NotJson

# 1 MiB of plain bytes take about 2 ms.
_STEP_BYTES: Final = 1 << 20
_GZIP: Final = frozenset((b"gzip", b"x-gzip"))
_DEFLATE: Final = b"deflate"
# Those that senders of this kind use, by the names of IANA's list and their usual aliases. Any other name is ignored:
# Python knows a hundred codecs, some of which are no charsets.
_CHARSETS: Final = {
    b"iso-8859-1": "latin-1",
    b"iso8859-1": "latin-1",
    b"latin1": "latin-1",
    b"latin-1": "latin-1",
    b"windows-1252": "cp1252",
    b"cp1252": "cp1252",
    b"iso-8859-15": "iso8859-15",
    b"utf-16": "utf-16",
    b"utf-16le": "utf-16-le",
    b"utf-16be": "utf-16-be",
}
# Codings that change nothing: some senders write the charset where the coding belongs.
_NOTHING_TO_UNDO: Final = frozenset((b"", b"identity", b"utf-8", b"utf8", b"us-ascii", b"ascii", *_CHARSETS))
_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
# How JSON begins. No compressed body begins so, which shows one that a proxy decompressed without saying it.
_JSON_BEGINS: Final = (b"{", b"[", b'"')


class UnsupportedCoding(Exception):
    """The body is in a coding that is not known here."""


class PlainBodyTooLarge(Exception):
    """The body would have more plain bytes than the limit."""


def members(value: bytes) -> list[bytes]:
    """Return the members of a header whose value is a list, in lower case."""
    return [member.strip() for member in value.lower().split(b",")]


def transfer_codings(value: bytes) -> list[bytes]:
    """Return the codings of a Transfer-Encoding header that the server does not undo: all but chunked."""
    return [coding for coding in members(value) if coding != b"chunked"]


def is_plain(codings: Sequence[bytes]) -> bool:
    """Return whether these codings (lower case, in the order in which they were applied) change nothing."""
    return all(coding in _NOTHING_TO_UNDO for coding in codings)


def decompress(body: bytes, codings: Sequence[bytes], *, limit_bytes: int) -> Stepwise[bytes]:
    """Return `body` without its compression.

    Raise UnsupportedCoding, PlainBodyTooLarge, and NotJson if it is damaged.
    """
    applied = [coding for coding in codings if coding not in _NOTHING_TO_UNDO]
    if len(applied) > 1 or not _GZIP.union((_DEFLATE,)).issuperset(applied):
        raise UnsupportedCoding
    if not applied or body[:64].lstrip().startswith(_JSON_BEGINS):
        return body
    yield
    name = applied[0].decode()
    decompressor = zlib.decompressobj(_window_bits(body, applied[0]))
    plain, left = bytearray(), body
    while not decompressor.eof:
        try:
            step = decompressor.decompress(left, _STEP_BYTES)
        except zlib.error as exc:
            raise NotJson(f"the body is not {name}: it is damaged") from exc
        left = decompressor.unconsumed_tail
        if not step and not left and not decompressor.eof:
            raise NotJson(f"the body is cut short: its {name} does not end")
        plain += step
        if len(plain) > limit_bytes:
            raise PlainBodyTooLarge
        yield
    if decompressor.unused_data:
        raise NotJson(f"the body does not end where its {name} does")
    return bytes(plain)


def to_utf8(body: bytes, content_type: bytes, codings: Sequence[bytes]) -> bytes | None:
    """Return a body in UTF-8, from the charset that its headers name or its first bytes show; None if from neither."""
    charset: str | None
    if body.startswith(_UTF_16_MARKS):
        charset = "utf-16"
    elif body[1:2] == b"\0":
        # JSON begins with a character of ASCII, so of the first two bytes one is NUL (RFC 4627, section 3).
        charset = "utf-16-le"
    elif body[:1] == b"\0" and body[1:2].isascii():
        charset = "utf-16-be"
    else:
        names = (_charset_of(content_type), *codings)
        charset = next((_CHARSETS[name] for name in names if name in _CHARSETS), None)
    if charset is None:
        return None
    try:
        return body.decode(charset).encode()
    except UnicodeError:
        return None


def _window_bits(body: bytes, coding: bytes) -> int:
    """Return what zlib needs to know of the format. Of "deflate" there are two: RFC 9110, section 8.4.1.2."""
    if coding in _GZIP:
        return zlib.MAX_WBITS | 16
    # RFC 1950, section 2.2: the first two bytes of the zlib format are a multiple of 31, and the first names deflate.
    has_header = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


def _charset_of(content_type: bytes) -> bytes:
    for parameter in content_type.split(b";")[1:]:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset":
            return value.strip().strip(b"\"'")
    return b""
