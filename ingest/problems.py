"""Which outcome gets which status: every answer that is not 200, as an RFC 9457 problem document.

The gateway takes exactly 200 for success. Whatever else it hears, it sends the same bytes again after five minutes,
three times in all, then drops them ("Callback failure" in the specification). So each status here also decides
whether that repetition is of any use:

    outcome                                  status   will the gateway's retry help?
    kept                                     200      -
    JSON, but not the documented shape       200      no: quarantined, and 200 ends the repeating
    no HTTP request, or an ambiguous one     400      yes, if it was damaged on the way
    not JSON, or cut short                   400      yes, if it was damaged on the way; a copy is quarantined
    address not allowed                      403      no, not before CALLBACKS_ALLOWED_IPS names it
    unknown token, unknown path              404      no; one answer for both, so that guessing teaches nothing
    other method                             405      no
    head or body slower than the limit       408      yes
    body larger than the limit               413      no, not before CALLBACKS_MAX_BODY_BYTES is raised
    compressed, or a form                    415      no
    head larger than the limit               431      no
    nothing can keep it now, too much in     503      yes: Retry-After says when
      flight, or a fault of ours

No document holds a token, a text or a number of a person: `detail` is written here, and there is no `instance`.
"""

from dataclasses import dataclass
from typing import Final

from ingest.answers import Answer, answer

# Shorter than the gateway's five minutes, long enough for a Redis to restart.
RETRY_AFTER_SECONDS: Final = 30


class Refused(Exception):
    """The request is answered with a problem document, `answer`."""

    def __init__(self, refusal: Answer) -> None:
        self.answer = refusal
        super().__init__(refusal.name)


@dataclass(frozen=True, slots=True)
class _Problem:
    status: int
    name: str
    title: str

    def __call__(
        self, detail: str, *, headers: tuple[tuple[bytes, bytes], ...] = (), unread: bool = False, about: str = ""
    ) -> Answer:
        document = {
            "type": f"urn:problem-type:callbacks:{self.name}",
            "title": self.title,
            "status": self.status,
            "detail": detail,
        }
        return answer(
            self.status,
            document,
            media_type=b"application/problem+json",
            headers=headers,
            unread=unread,
            name=self.name,
            about=about,
        )


_NOT_JSON: Final = _Problem(400, "not-json", "The body is not JSON")
_ADDRESS: Final = _Problem(403, "address-not-allowed", "This address may not post callbacks")
_NOT_FOUND: Final = _Problem(404, "not-found", "There is nothing at this address")
_METHOD: Final = _Problem(405, "method-not-allowed", "This method is not allowed here")
_TOO_SLOW: Final = _Problem(408, "too-slow", "The body did not arrive in time")
_TOO_LARGE: Final = _Problem(413, "too-large", "The body is too large")
_NOT_HTTP: Final = _Problem(400, "not-http", "This is not an HTTP request")
_HEAD_TOO_SLOW: Final = _Problem(408, "too-slow", "The request did not arrive in time")
_HEAD_TOO_LARGE: Final = _Problem(431, "head-too-large", "The header lines are too large")
_MEDIA: Final = _Problem(415, "unsupported-media", "The body must be plain JSON")
_STORE_UNAVAILABLE: Final = _Problem(503, "store-unavailable", "The callback could not be kept")
_OVERLOAD: Final = _Problem(503, "overload", "Too much is in flight")
_FAULT: Final = _Problem(503, "fault", "Something went wrong here")

# Refusals before the body was read (`unread`) end the connection: what may follow on it is the rest of that body.


def not_json(why: str, *, source: str) -> Answer:
    """Say `why` the body is not JSON."""
    return _NOT_JSON(why, about=f"source={source}")


def address_not_allowed(address: str) -> Answer:
    """Say that whoever is at `address` may not post."""
    return _ADDRESS(f"{address} is not among the allowed addresses", unread=True, about=f"address={address}")


def not_found() -> Answer:
    """Give the answer for an unknown token and for an unknown path alike."""
    return _NOT_FOUND("No callback address of this service reads like this", unread=True)


def method_not_allowed(method: str, allow: tuple[str, ...]) -> Answer:
    """Say that `method` is none of those in `allow`; RFC 9110, section 15.5.6, wants them told."""
    allowed = ", ".join(allow)
    return _METHOD(f"Only {allowed}", headers=((b"allow", allowed.encode()),), unread=True, about=f"method={method}")


def too_slow(limit_seconds: float) -> Answer:
    """Say that the body took longer than `limit_seconds`."""
    return _TOO_SLOW(f"The whole body must arrive within {limit_seconds:g} seconds", unread=True)


def too_large(limit_bytes: int) -> Answer:
    """Say that the body has more than `limit_bytes`."""
    return _TOO_LARGE(f"A body may have {limit_bytes} bytes", unread=True)


def not_http(why: str) -> Answer:
    """Say that what came is no request at all."""
    return _NOT_HTTP(why, unread=True)


def doubled(name: str) -> Answer:
    """Say that the header line `name` stands there more than once."""
    return _NOT_HTTP(f"{name} may be given only once", unread=True)


def head_too_slow(limit_seconds: float) -> Answer:
    """Say that the header lines took longer than `limit_seconds`."""
    return _HEAD_TOO_SLOW(f"The header lines must arrive within {limit_seconds:g} seconds", unread=True)


def head_too_large(limit_bytes: int) -> Answer:
    """Say that the header lines have more than `limit_bytes` (RFC 6585, section 5)."""
    return _HEAD_TOO_LARGE(f"The header lines may have {limit_bytes} bytes", unread=True)


def encoded() -> Answer:
    """Say that no compressed body is taken; RFC 9110, section 15.5.16, lets the answer say what would be."""
    return _MEDIA("A content encoding is not accepted", headers=((b"accept-encoding", b"identity"),), unread=True)


def form() -> Answer:
    """Say that no form is taken."""
    return _MEDIA("A form is not accepted", headers=((b"accept", b"application/json"),), unread=True)


def store_unavailable(retry_after_seconds: int) -> Answer:
    """Say that nothing could store the callback; why is for the log, not for the sender."""
    return _STORE_UNAVAILABLE("It is not stored: send it again", headers=_retry_after(retry_after_seconds))


def overload() -> Answer:
    """Say that taking this callback would exceed what this process may hold in memory."""
    return _OVERLOAD("Send it again later", headers=_retry_after(RETRY_AFTER_SECONDS), unread=True)


def fault() -> Answer:
    """Say that we failed in an unexpected way: 503, as a repetition may well succeed, and 500 would promise nothing."""
    return _FAULT("The callback is not known to be kept", headers=_retry_after(RETRY_AFTER_SECONDS))


def _retry_after(seconds: int) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", str(seconds).encode()),)
