"""Every answer of the public edge: which outcome gets which status, as ready bytes.

The gateway counts only 200 as success. After any other status it sends the same bytes again five minutes later, three
times in all, then drops them ("Callback failure" in the specification). So each status also decides whether that
retry can help:

    outcome                                  status   will the gateway's retry help?
    accepted                                 200      -
    JSON, but not the documented shape       200      no: quarantined, and 200 ends the retries
    not HTTP, or an ambiguous request        400      yes, if it was damaged on the way
    not JSON, or cut short                   400      yes, if it was damaged on the way; a copy is quarantined
    address not allowed                      403      no, not before CALLBACKS_ALLOWED_IPS names it
    unknown token, unknown path              404      no; one answer for both, so that guessing teaches nothing
    other method                             405      no
    head or body slower than the limit       408      yes
    body larger than the limit               413      no, not before CALLBACKS_MAX_BODY_BYTES is raised
    an unknown coding, or a form             415      no
    head larger than the limit               431      no
    nothing can store it now, too much in    503      yes: Retry-After says when
      flight, or an error of ours

Everything but 200 is an RFC 9457 problem document. None holds a token, or a text or number of a person: `detail` is
written here, and there is no `instance`.

Our own server takes a whole response as bytes (`ingest.server_connection`), any other the two messages of ASGI.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import orjson
from starlette.types import Message, Receive, Scope, Send

from ingest.server_connection import connection_of
from shared import refusals

LogFields: TypeAlias = tuple[tuple[str, str], ...]
# In the lifespan's state: a function that counts an answer which the server gives before the application has a request.
COUNT_REFUSAL: Final = "ingest.count_refusal"

# Less than the gateway's five minutes, and enough for Redis to restart.
RETRY_AFTER_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its two ASGI messages, the bytes that they become, and what the log may say about it.

    `body_unread`: the request's body, or the rest of it, was not read, so the connection ends with this answer.
    `body_begun`: its first bytes were read, or waited for, so a client that asked for "100 Continue" sends the rest.
    `problem`: the problem's name, empty for a success. `log_fields`: more for the log. `address`: where a
    refused request came from, "" if not known; `has_valid_token`: whether that sender knows a callback URL.
    `keep_copy`: reads the body after the answer, discards it, and keeps a copy of its first bytes.
    """

    status: int
    start: Message
    body: Message
    status_line: bytes
    rest: bytes
    body_unread: bool = False
    body_begun: bool = False
    problem: str = ""
    log_fields: LogFields = ()
    address: str = ""
    has_valid_token: bool = False
    keep_copy: Callable[[Receive], Awaitable[None]] | None = None

    @property
    def sender(self) -> refusals.Sender:
        """What is known of the sender of a refused request."""
        return "known" if self.has_valid_token else "unknown"

    async def send(self, scope: Scope, send: Send) -> None:
        """Send the whole response."""
        connection = connection_of(scope)
        if connection is not None and connection.send_at_once(self.status_line, self.rest):
            return
        await send(self.start)
        await send(self.body)


class Refused(Exception):
    """The request is answered with the problem document `answer`."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(answer.problem)


def json_answer(
    status: int,
    document: dict[str, Any],
    *,
    media_type: bytes = b"application/json",
    headers: Sequence[tuple[bytes, bytes]] = (),
    body_unread: bool = False,
    problem: str = "",
    log_fields: LogFields = (),
) -> Answer:
    """Return the answer whose body is `document` as JSON."""
    body = orjson.dumps(document)
    all_headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), *headers]
    if body_unread:
        all_headers.append((b"connection", b"close"))
    return Answer(
        status,
        start={"type": "http.response.start", "status": status, "headers": all_headers},
        body={"type": "http.response.body", "body": body},
        status_line=b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode()),
        rest=b"".join(b"%s: %s\r\n" % header for header in all_headers) + b"\r\n" + body,
        body_unread=body_unread,
        problem=problem,
        log_fields=log_fields,
    )


ACCEPTED: Final = json_answer(200, {"status": "accepted"})


def partly_quarantined(number: int, error: str) -> Answer:
    """Return the answer to an accepted callback, `number` of whose records were quarantined because of `error`."""
    return json_answer(200, {"status": "accepted", "quarantined": number, "error": error})


def quarantined(error: str) -> Answer:
    """Return the answer to a callback that was quarantined as a whole because of `error`."""
    return json_answer(200, {"status": "quarantined", "error": error})


# Problems


class _Problem:
    """Makes the answers of one reason of `refusals.REASONS`, under another `title` if that says more."""

    def __init__(self, name: str, title: str = "") -> None:
        self._reason = refusals.REASONS[name]
        self._title = title or self._reason.title

    def __call__(
        self,
        detail: str,
        *,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        unread: bool = False,
        log_fields: LogFields = (),
    ) -> Answer:
        document = {
            "type": f"urn:problem-type:callbacks:{self._reason.name}",
            "title": self._title,
            "status": self._reason.status,
            "detail": detail,
        }
        return json_answer(
            self._reason.status,
            document,
            media_type=b"application/problem+json",
            headers=headers,
            body_unread=unread,
            problem=self._reason.name,
            log_fields=log_fields,
        )


_NOT_HTTP: Final = _Problem("not-http")
_NOT_JSON: Final = _Problem("not-json")
_ADDRESS: Final = _Problem("address-not-allowed")
_NOT_FOUND: Final = _Problem("not-found")
_METHOD: Final = _Problem("method-not-allowed")
_BODY_TOO_SLOW: Final = _Problem("too-slow", "Request body too slow")
_HEAD_TOO_SLOW: Final = _Problem("too-slow", "Request headers too slow")
_TOO_LARGE: Final = _Problem("too-large")
_MEDIA: Final = _Problem("unsupported-media")
_HEAD_TOO_LARGE: Final = _Problem("head-too-large")
_STORE_UNAVAILABLE: Final = _Problem("store-unavailable")
_OVERLOAD: Final = _Problem("overload")
_INTERNAL_ERROR: Final = _Problem("internal-error")

# `unread` ends the connection: a refusal before the body was read, as the rest of that body may follow.


def not_http(why: str) -> Answer:
    """Return the answer to bytes that are not an HTTP request."""
    return _NOT_HTTP(why, unread=True)


def duplicate_header(name: str) -> Answer:
    """Return the answer to a request that has the header `name` more than once."""
    return _NOT_HTTP(f"The {name} header must not be repeated.", unread=True)


def not_json(why: str, *, source: str) -> Answer:
    """Return the answer to a body that is not JSON; `why` says where."""
    return _NOT_JSON(f"{why[:1].upper()}{why[1:]}.", log_fields=(("source", source),))


def address_not_allowed(address: str) -> Answer:
    """Return the answer to a request from an address that may not post."""
    return _ADDRESS(f"Callbacks are not accepted from {address}.", unread=True)


def not_found() -> Answer:
    """Return the answer for an unknown token and for an unknown path alike."""
    return _NOT_FOUND("No callback URL matches this path.", unread=True)


def method_not_allowed(method: str, allow: tuple[str, ...]) -> Answer:
    """Return the answer to a method that is not in `allow`, with the Allow header of RFC 9110, section 15.5.6."""
    allowed = ", ".join(allow)
    return _METHOD(
        f"Allowed here: {allowed}.",
        headers=((b"allow", allowed.encode()),),
        unread=True,
        log_fields=(("method", method),),
    )


def body_too_slow(limit_seconds: float) -> Answer:
    """Return the answer to a body that was not complete after `limit_seconds`."""
    return _BODY_TOO_SLOW(f"The whole body must arrive within {limit_seconds:g} seconds.", unread=True)


def body_too_large(limit_bytes: int, *, unread: bool = True) -> Answer:
    """Return the answer to a body of more than `limit_bytes`, of which not all was read if `unread`."""
    return _TOO_LARGE(f"A body may have at most {limit_bytes} bytes.", unread=unread)


def head_too_slow(limit_seconds: float) -> Answer:
    """Return the answer to headers that were not complete after `limit_seconds`."""
    return _HEAD_TOO_SLOW(f"The headers must arrive within {limit_seconds:g} seconds.", unread=True)


def head_too_large(limit_bytes: int) -> Answer:
    """Return the answer to headers of more than `limit_bytes` (RFC 6585, section 5)."""
    return _HEAD_TOO_LARGE(f"The headers may have at most {limit_bytes} bytes.", unread=True)


def encoding_not_supported() -> Answer:
    """Return the answer to an unknown coding. It names what is supported, as RFC 9110, section 15.5.16, has it."""
    return _MEDIA(
        "This content coding is not supported; send the JSON as it is, or with gzip or deflate.",
        headers=((b"accept-encoding", b"gzip, deflate, identity"),),
    )


def form_not_supported() -> Answer:
    """Return the answer to a form that is not JSON."""
    return _MEDIA("Forms are not supported; send JSON.", headers=((b"accept", b"application/json"),))


def store_unavailable(retry_after_seconds: int) -> Answer:
    """Return the answer to a callback that nothing could store. The log has the reason, the sender does not get it."""
    return _STORE_UNAVAILABLE("The callback is not stored; send it again.", headers=_retry_after(retry_after_seconds))


def overload() -> Answer:
    """Return the answer to a request that would exceed what this process may hold in memory."""
    return _OVERLOAD(
        "The callback is not stored; send it again later.", headers=_retry_after(RETRY_AFTER_SECONDS), unread=True
    )


def internal_error() -> Answer:
    """Return the answer for an unexpected error of ours: 503, not 500, as a retry may well succeed."""
    return _INTERNAL_ERROR("The callback may not be stored; send it again.", headers=_retry_after(RETRY_AFTER_SECONDS))


def _retry_after(seconds: int) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", str(seconds).encode()),)
