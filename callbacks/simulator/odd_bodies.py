"""Odd shapes and encodings of whole bodies, which a receiver is to read like the documented ones.

Each has the name of its case in `tests/payloads`, which says who writes so.
"""

import codecs
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Final

from callbacks.simulator.callback import CallbackKind, UrlForm

URLS: Final[dict[str, tuple[CallbackKind | None, UrlForm]]] = {
    "shapes/report-at-the-reply-url": ("status", "other kind"),
    "shapes/reply-at-the-status-url": ("reply", "other kind"),
    "shapes/report-at-the-single-url": ("status", "no kind"),
    "shapes/reply-at-the-single-url": ("reply", "no kind"),
    "shapes/trailing-slash": (None, "trailing slash"),
    "shapes/doubled-slash": (None, "doubled slash"),
}
"""The kind of callback, None for both, and the URL."""

_JSON: Final = "application/json"
_TEXT: Final = {"Content-Type": f"{_JSON}; charset=utf-8"}
_BARE: Final = {"Content-Type": _JSON}


def _coding(name: str) -> dict[str, str]:
    return {"Content-Type": _JSON, "Content-Encoding": name}


def _charset(name: str) -> dict[str, str]:
    return {"Content-Type": f"{_JSON}; charset={name}"}


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Escape characters that a charset does not have, as JSON does."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error("callbacks.simulator.escape", _escape)

# The headers, and the bytes of a body's text.
ENCODINGS: Final[dict[str, tuple[dict[str, str], Callable[[str], bytes]]]] = {
    "encodings/mark-of-utf-8": (_BARE, lambda text: codecs.BOM_UTF8 + text.encode()),
    "encodings/mark-of-utf-16-little-endian": (
        _BARE, lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le")
    ),
    "encodings/mark-of-utf-16-big-endian": (_BARE, lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be")),
    "encodings/utf-16-named": (_charset("utf-16le"), lambda text: text.encode("utf-16-le")),
    "encodings/latin-1-named": (
        _charset("ISO-8859-1"), lambda text: text.encode("latin-1", "callbacks.simulator.escape")
    ),
    "encodings/windows-1252-named": (
        _charset('"windows-1252"'), lambda text: text.encode("cp1252", "callbacks.simulator.escape")
    ),
    "encodings/utf-8-named-latin-1": (_charset("ISO-8859-1"), str.encode),
    "encodings/charset-as-content-encoding": (_coding("UTF-8"), str.encode),
    "encodings/gzip": (_coding("gzip"), lambda text: _gzip(text.encode())),
    "encodings/gzip-in-capitals": (_coding("X-GZIP"), lambda text: _gzip(text.encode())),
    "encodings/gzip-undone-on-the-way": (_coding("gzip"), str.encode),
    "encodings/gzip-of-utf-16": (_coding("gzip"), lambda text: _gzip(codecs.BOM_UTF16_LE + text.encode("utf-16-le"))),
    "encodings/deflate": (_coding("deflate"), lambda text: zlib.compress(text.encode())),
    "encodings/deflate-without-header": (_coding("deflate"), lambda text: _deflate(text.encode())),
    "encodings/form-label": ({"Content-Type": "application/x-www-form-urlencoded"}, str.encode),
    "encodings/multipart-label": ({"Content-Type": "multipart/form-data; boundary=x"}, str.encode),
    "encodings/text-label": ({"Content-Type": "text/plain; charset=utf-8"}, str.encode),
    "encodings/no-label": ({}, str.encode),
    "encodings/ascii-escapes": (_TEXT, lambda text: json.dumps(json.loads(text)).encode()),
    "encodings/escaped-slashes": (_TEXT, lambda text: text.replace("/", "\\/").encode()),
    "shapes/pretty-printed": (_TEXT, lambda text: json.dumps(json.loads(text), ensure_ascii=False, indent=4).encode()),
}  # fmt: skip


def _gzip(data: bytes) -> bytes:
    # Without the time: the same campaign is sent with the same bytes.
    return gzip.compress(data, mtime=0)


def _deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()
