"""An answer, ready to be sent: built once where it is always the same, so that sending it costs nothing more."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.types import Message, Send


@dataclass(frozen=True, slots=True)
class Answer:
    """The two ASGI messages of a response, and what the log may say of it.

    `unread`: the request's body, or the rest of it, was not read, so the connection ends with this answer. `name`:
    the problem's name, empty for a success. `about`: `key=value` for the log.
    """

    status: int
    start: Message
    body: Message
    unread: bool = False
    name: str = ""
    about: str = ""

    def as_http(self) -> bytes:
        """Give the bytes of the response, for where there is no request to answer yet."""
        head = [b"HTTP/1.1 %d %s" % (self.status, HTTPStatus(self.status).phrase.encode())]
        head += [b"%s: %s" % header for header in self.start["headers"]]
        whole: bytes = b"\r\n".join(head) + b"\r\n\r\n" + self.body["body"]
        return whole

    async def send(self, send: Send) -> None:
        """Send all of it."""
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
    return Answer(status, start, {"type": "http.response.body", "body": body}, unread, name, about)


ACCEPTED: Final = answer(200, {"status": "accepted"})


def partly(number: int, error: str) -> Answer:
    """Give the answer to a callback that is kept, `number` of whose records cannot be read because of `error`."""
    return answer(200, {"status": "accepted", "quarantined": number, "error": error})


def quarantined(error: str) -> Answer:
    """Give the answer to a callback that is in the quarantine, whole, because of `error`."""
    return answer(200, {"status": "quarantined", "error": error})
