"""An answer, ready to be sent: built once where it is always the same, so that sending it costs nothing more.

ASGI sends a response in two messages, which become two writes and two packets. Where the server is ours it takes the
whole response as bytes instead, at half the cost (`SEND_AT_ONCE`); any other gets the two messages.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import orjson
from starlette.types import Message, Scope, Send

# In a request's scope: takes the status line and what follows the server's own header lines, and tells whether it has
# sent the response; if not, the two messages have to. See ingest/protocol.py.
SEND_AT_ONCE: Final = "ingest.answer_at_once"
SendAtOnce: TypeAlias = Callable[[bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its two ASGI messages, the bytes that they become, and what the log may say of it.

    `unread`: the request's body, or the rest of it, was not read, so the connection ends with this answer. `name`:
    the problem's name, empty for a success. `about`: `key=value` for the log.
    """

    status: int
    start: Message
    body: Message
    status_line: bytes
    rest: bytes
    unread: bool = False
    name: str = ""
    about: str = ""

    async def send(self, scope: Scope, send: Send) -> None:
        """Send all of it."""
        at_once: SendAtOnce | None = scope.get(SEND_AT_ONCE)
        if at_once is not None and at_once(self.status_line, self.rest):
            return
        await send(self.start)
        await send(self.body)


def answer(
    status: int,
    document: dict[str, Any],
    *,
    media_type: bytes = b"application/json",
    headers: Sequence[tuple[bytes, bytes]] = (),
    unread: bool = False,
    name: str = "",
    about: str = "",
) -> Answer:
    """Make the answer whose body is `document` as JSON."""
    body = orjson.dumps(document)
    all_headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), *headers]
    if unread:
        all_headers.append((b"connection", b"close"))
    start = {"type": "http.response.start", "status": status, "headers": all_headers}
    status_line = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
    rest = b"".join(b"%s: %s\r\n" % header for header in all_headers) + b"\r\n" + body
    return Answer(status, start, {"type": "http.response.body", "body": body}, status_line, rest, unread, name, about)


ACCEPTED: Final = answer(200, {"status": "accepted"})


def partly_quarantined(number: int, error: str) -> Answer:
    """Give the answer to a callback that is kept, `number` of whose records cannot be read because of `error`."""
    return answer(200, {"status": "accepted", "quarantined": number, "error": error})


def quarantined(error: str) -> Answer:
    """Give the answer to a callback that is in the quarantine, whole, because of `error`."""
    return answer(200, {"status": "quarantined", "error": error})
