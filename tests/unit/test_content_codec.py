"""Compressed bodies and other charsets: undone within the limit, in steps; what cannot be undone is named."""

import gzip
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import content_codec
from shared.content_codec import PlainBodyTooLarge, UnsupportedCoding
from shared.cooperative import run_to_end
from shared.errors import NotJson

BODY = b'{"data":[{"message_id":"1","status":"DELIVRD"}]}'
# Without the time, as the bytes are in the names of tests, which all processes must agree on.
COMPRESSED = gzip.compress(BODY, mtime=0)
LIMIT_BYTES = 4 << 20


def decompress(body: bytes, *codings: bytes, limit_bytes: int = LIMIT_BYTES) -> bytes:
    return run_to_end(content_codec.decompress(body, codings, limit_bytes=limit_bytes))


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    ("body", "codings"),
    [
        (COMPRESSED, [b"gzip"]),
        (COMPRESSED, [b"x-gzip"]),
        (COMPRESSED, [b"identity", b"gzip"]),
        (COMPRESSED, [b"utf-8", b"gzip"]),
        (zlib.compress(BODY), [b"deflate"]),
        (raw_deflate(BODY), [b"deflate"]),
        (BODY, [b"identity"]),
        (BODY, [b"utf-8"]),
        (BODY, [b""]),
    ],
)
def test_a_coding_is_undone(body: bytes, codings: Sequence[bytes]) -> None:
    assert decompress(body, *codings) == BODY


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_a_body_that_a_proxy_has_decompressed_is_taken_as_it_is(coding: bytes) -> None:
    assert decompress(b" \n" + BODY, coding) == b" \n" + BODY


@pytest.mark.parametrize("codings", [[b"br"], [b"zstd"], [b"gzip", b"gzip"], [b"gzip", b"deflate"], [b"x"]])
def test_an_unknown_or_a_doubled_coding_is_not_supported(codings: Sequence[bytes]) -> None:
    with pytest.raises(UnsupportedCoding):
        decompress(COMPRESSED, *codings)


@pytest.mark.parametrize("size_bytes", [LIMIT_BYTES + 1, 1 << 30])
def test_a_bomb_ends_at_the_limit(size_bytes: int) -> None:
    compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    bomb = compressor.compress(bytes(size_bytes % (1 << 20))) + compressor.flush(zlib.Z_FULL_FLUSH)
    # After a full flush the same bytes are compressed to the same bytes.
    bomb += (compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)) * (size_bytes >> 20)
    with pytest.raises(PlainBodyTooLarge):
        decompress(bomb, b"gzip")


def test_a_body_of_the_limit_is_read_whole() -> None:
    assert decompress(gzip.compress(bytes(LIMIT_BYTES), mtime=0), b"gzip") == bytes(LIMIT_BYTES)


def test_a_large_body_is_decompressed_in_steps() -> None:
    steps = content_codec.decompress(gzip.compress(bytes(LIMIT_BYTES), mtime=0), [b"gzip"], limit_bytes=LIMIT_BYTES)
    assert sum(1 for _ in steps) >= 4


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (COMPRESSED[:-9], "cut short"),
        (COMPRESSED[:12], "cut short"),
        (b"", "cut short"),
        (b"no gzip at all", "damaged"),
        (COMPRESSED[:-8] + bytes(8), "damaged"),
        (COMPRESSED + b"more", "does not end where"),
        (COMPRESSED * 2, "does not end where"),
    ],
)
def test_a_damaged_body_is_not_json(body: bytes, error: str) -> None:
    with pytest.raises(NotJson, match=error):
        decompress(body, b"gzip")


@given(st.binary(), st.sampled_from([b"gzip", b"deflate"]))
def test_any_bytes_are_undone_or_named(body: bytes, coding: bytes) -> None:
    try:
        decompress(body, coding, limit_bytes=1000)
    except (NotJson, PlainBodyTooLarge):
        return


@pytest.mark.parametrize(
    ("codec", "content_type"),
    [
        ("latin-1", b"application/json; charset=iso-8859-1"),
        ("latin-1", b'application/json;charset="latin1"'),
        ("cp1252", b"text/plain; format=flowed; charset=windows-1252"),
        ("utf-16-le", b"application/json; charset=utf-16le"),
        ("utf-16", b"application/json"),
        ("utf-16-le", b"application/json"),
        ("utf-16-be", b"application/json; charset=utf-8"),
        ("utf-16", b"application/json; charset=utf-16"),
    ],
)
def test_a_named_or_marked_charset_becomes_utf_8(codec: str, content_type: bytes) -> None:
    text = '{"text":"Grüße"}'
    assert content_codec.to_utf8(text.encode(codec), content_type, ()) == text.encode()


def test_a_charset_in_the_place_of_the_coding_counts() -> None:
    assert content_codec.to_utf8("ü".encode("latin-1"), b"application/json", [b"iso-8859-1"]) == "ü".encode()


@pytest.mark.parametrize(
    "content_type", [b"", b"application/json", b"a/b; charset=rot13", b"a/b; charset=utf-7", b";;="]
)
def test_without_a_known_charset_there_is_nothing_to_convert(content_type: bytes) -> None:
    assert content_codec.to_utf8("ü".encode("latin-1"), content_type, ()) is None


def test_a_body_that_is_not_in_its_charset_is_left() -> None:
    assert content_codec.to_utf8(b"{\x00x", b"a/b; charset=utf-16le", ()) is None


@pytest.mark.parametrize(
    ("value", "codings"),
    [(b"chunked", []), (b"gzip, chunked", [b"gzip"]), (b"GZIP , Chunked", [b"gzip"]), (b"deflate", [b"deflate"])],
)
def test_of_a_transfer_encoding_all_but_chunked_is_left_to_undo(value: bytes, codings: list[bytes]) -> None:
    assert content_codec.transfer_codings(value) == codings
