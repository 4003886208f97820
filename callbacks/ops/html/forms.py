"""Form bodies: read once, by `callbacks.ops.access_middleware`, within limits, for the endpoint to use.

Forms here are `application/x-www-form-urlencoded` and have no files, so no library is needed to read them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope

from shared.counted import counted
from shared.errors import CallbacksError

Form: TypeAlias = Mapping[str, Sequence[str]]

MAX_BYTES: Final = 1 << 20
# A name and a password. Anybody can send this much, on any number of connections.
MAX_BYTES_SIGNED_OUT: Final = 16 << 10
_MAX_FIELDS: Final = 10_000
_TIMEOUT_SECONDS: Final = 10.0
_TYPE: Final = "application/x-www-form-urlencoded"
_KEY: Final = "callbacks.form"


class FormError(CallbacksError):
    """The form cannot be read; `status_code` is what to answer."""

    def __init__(self, text: str, status_code: int) -> None:
        self.status_code = status_code
        super().__init__(text)


def fields(request: Request) -> Form:
    """Return the fields of the request's form, each with all its values in order."""
    given: Form = request.scope[_KEY]
    return given


def field(request: Request, name: str) -> str:
    """Return the first value of a field, stripped; empty if the field is missing."""
    return (fields(request).get(name) or ("",))[0].strip()


async def parse(scope: Scope, receive: Receive, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read the body, store its fields for `fields`, and return the body. Raise FormError."""
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if kind != _TYPE:
        raise FormError(f"A form must be {_TYPE}.", 415)
    body = bytearray()
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise FormError("The form was cut short.", 400)
                body += message.get("body", b"")
                if len(body) > max_bytes:
                    raise FormError(f"A form may have at most {counted(max_bytes, 'byte')}.", 413)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise FormError("The form took too long to arrive.", 408) from None
    try:
        fields = parse_qs(body.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise FormError(f"A form may have at most {counted(_MAX_FIELDS, 'field')}.", 413) from None
    scope[_KEY] = fields
    return bytes(body)
