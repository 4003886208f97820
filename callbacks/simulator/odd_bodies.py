"""Odd shapes and encodings of whole bodies, which a receiver is to read like the documented ones.

Each has the name of its case in `tests/payloads`, which says who writes so.
"""

import codecs
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any, Final

from callbacks.simulator.callback import CallbackKind, UrlForm
from callbacks.simulator.odd_values import Members

URLS: Final[dict[str, tuple[CallbackKind | None, UrlForm]]] = {
    "shapes/report-at-the-reply-url": ("status", "other kind"),
    "shapes/reply-at-the-status-url": ("reply", "other kind"),
    "shapes/report-at-the-single-url": ("status", "no kind"),
    "shapes/reply-at-the-single-url": ("reply", "no kind"),
    "shapes/trailing-slash": (None, "trailing slash"),
    "shapes/doubled-slash": (None, "doubled slash"),
}
"""The kind of callback, None for both, and the URL."""

_PRICE: Final[Members] = {"amount": "0.05", "currency": "EUR"}


def _is_alone(body: Members) -> bool:
    return len(body["data"]) == 1


def _with_data(body: Members, data: Any) -> Members:
    return {**body, "data": data}


def _split(body: Members) -> list[Members]:
    """Return a callback as two, or as one if it has one record or is a reply."""
    middle = (len(body.get("data", ())) + 1) // 2
    halves = [_with_data(body, body["data"][:middle]), _with_data(body, body["data"][middle:])] if middle else [body]
    return [half for half in halves if half.get("data", True)]


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# The kind of callback, None for both, and what stands for its body; None for one that has too many records for it.
SHAPES: Final[dict[str, tuple[CallbackKind | None, Callable[[Members], Any]]]] = {
    "shapes/one-record": ("status", lambda body: _with_data(body, body["data"][0]) if _is_alone(body) else None),
    "shapes/unknown-keys": (
        "status",
        lambda body: {"api_version": 3, **_with_data(body, [{**record, "price": _PRICE} for record in body["data"]])},
    ),
    "shapes/list-of-callbacks": (None, _split),
    "shapes/list-of-records": ("status", lambda body: body["data"]),
    "shapes/record-alone": ("status", lambda body: body["data"][0] if _is_alone(body) else None),
    "shapes/data-by-number": (
        "status",
        lambda body: _with_data(body, {str(2 * at): record for at, record in enumerate(body["data"])}),
    ),
    "shapes/json-in-a-string": (None, _text),
    "shapes/data-in-a-string": ("status", lambda body: _with_data(body, _text(body["data"]))),
    "shapes/record-in-a-string": ("status", lambda body: _with_data(body, [_text(record) for record in body["data"]])),
}

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
    "encodings/utf-16-without-mark": (_BARE, lambda text: text.encode("utf-16-le")),
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
    "shapes/callbacks-on-lines": (_TEXT, lambda text: "\n".join(map(_text, _split(json.loads(text)))).encode()),
    "shapes/trailing-nul": (_TEXT, lambda text: f"{text}\n\0".encode()),
}  # fmt: skip


def _gzip(data: bytes) -> bytes:
    # Without the time: the same campaign is sent with the same bytes.
    return gzip.compress(data, mtime=0)


def _deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()
