"""What a form sends: read once, by `callbacks.ops.guard`, within limits, and handed to the endpoint.

Forms here are `application/x-www-form-urlencoded` and have no files, so no library is needed to read them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope

from shared.errors import CallbacksError

Form: TypeAlias = Mapping[str, Sequence[str]]

MOST_BYTES: Final = 1 << 20
# A name and a password: strangers can send that much each, on any number of connections.
MOST_BYTES_OF_STRANGERS: Final = 16 << 10
_MOST_FIELDS: Final = 10_000
_SECONDS: Final = 10.0
_TYPE: Final = "application/x-www-form-urlencoded"
_KEY: Final = "callbacks.form"


class Unreadable(CallbacksError):
    """The form cannot be read; `status_code` is what to answer."""

    def __init__(self, text: str, status_code: int) -> None:
        self.status_code = status_code
        super().__init__(text)


def form(request: Request) -> Form:
    """Give the fields of the form that this request sent, each with all its values, in order."""
    given: Form = request.scope[_KEY]
    return given


def first(request: Request, name: str) -> str:
    """Give the first value of a field, without blanks around it; empty if there is none."""
    return (form(request).get(name) or ("",))[0].strip()


async def read(scope: Scope, receive: Receive, *, most_bytes: int = MOST_BYTES) -> bytes:
    """Read the body and keep its fields for `form`; give it as it was. Raises Unreadable."""
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if kind != _TYPE:
        raise Unreadable(f"A form is {_TYPE}.", 415)
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Unreadable("The form was cut short.", 400)
                body += message.get("body", b"")
                if len(body) > most_bytes:
                    raise Unreadable(f"This form has at most {most_bytes:,} bytes.", 413)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise Unreadable("The form took too long to arrive.", 408) from None
    try:
        fields = parse_qs(body.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Unreadable(f"A form has at most {_MOST_FIELDS:,} fields.", 413) from None
    scope[_KEY] = fields
    return bytes(body)
