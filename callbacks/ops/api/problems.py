"""The problem documents (RFC 9457) of `/api`, in one place. None shows a token, a number or a text.

Of a request they repeat only the name of an unknown parameter, cut.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
# A supervisor starts Redis again within seconds.
_RETRY_AFTER_SECONDS: Final = 5


class ApiProblemDocument(Struct, frozen=True):
    """What is wrong with a request, or why it cannot be answered now."""

    type: str
    title: str
    status: int
    detail: str


class ApiProblem(Exception):
    """The request is answered with this document."""

    def __init__(
        self, name: str, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.document = ApiProblemDocument(f"urn:problem-type:callbacks:{name}", title, status, detail)
        self.headers = dict(headers or {})
        super().__init__(name)

    def response(self) -> Response:
        """Return the response."""
        body = msgspec.json.encode(self.document)
        return Response(body, self.document.status, self.headers, MEDIA_TYPE)


def no_token() -> ApiProblem:
    """Return the answer to a request without a token. RFC 6750, section 3.1: it names no error."""
    return _unauthorized("Send a token of CALLBACKS_OPS_TOKENS: Authorization: Bearer SECRET.", "")


def wrong_token() -> ApiProblem:
    """Return the answer to a request with an unknown token."""
    return _unauthorized("This token is not one of CALLBACKS_OPS_TOKENS.", ', error="invalid_token"')


def role_missing(what: str) -> ApiProblem:
    """Return the answer to a request that the token's role does not allow."""
    return ApiProblem("role-missing", 403, "Role missing", f"{what} needs a token with the role act.")


def not_found(detail: str) -> ApiProblem:
    """Return the answer for what does not exist."""
    return ApiProblem("not-found", 404, "Not found", detail)


def method_not_allowed(allow: str) -> ApiProblem:
    """Return the answer to a method that the path does not have."""
    return ApiProblem("method-not-allowed", 405, "Method not allowed", f"Allowed here: {allow}.", {"allow": allow})


def ambiguous_id(number: int) -> ApiProblem:
    """Return the answer to an id of several messages."""
    return ApiProblem(
        "ambiguous-id", 409, "Several messages", f"This id names {number} messages; list them by /api/messages?job=ID."
    )


def bad_parameter(detail: str) -> ApiProblem:
    """Return the answer to a query that cannot be read."""
    return ApiProblem("bad-parameter", 400, "Bad parameter", detail)


def too_many_requests(seconds: int, why: str) -> ApiProblem:
    """Return the answer to a request that comes too early."""
    return ApiProblem(
        "too-many-requests",
        429,
        "Too many requests",
        f"{why} Try again in {seconds} s.",
        {"retry-after": str(seconds)},
    )


def redis_unavailable(error: str) -> ApiProblem:
    """Return the answer while Redis cannot be used."""
    return ApiProblem(
        "redis-unavailable", 503, "Redis unavailable", f"Redis does not answer ({error}).", _retry_after()
    )


def history_unavailable(why: str) -> ApiProblem:
    """Return the answer while the tables of the handler `sql` cannot be read."""
    return ApiProblem("history-unavailable", 503, "Message history unavailable", f"{why}.", _retry_after())


def missing_extra(why: str) -> ApiProblem:
    """Return the answer where the libraries of the handler `sql` are not installed: another try cannot help."""
    return ApiProblem("history-unavailable", 503, "Message history unavailable", f"{why}.")


def _retry_after() -> dict[str, str]:
    return {"retry-after": str(_RETRY_AFTER_SECONDS)}


def _unauthorized(detail: str, error: str) -> ApiProblem:
    challenge = {"www-authenticate": f'Bearer realm="callbacks"{error}'}
    return ApiProblem("unauthorized", 401, "Unauthorized", detail, challenge)
