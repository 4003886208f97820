"""`/api`, assembled: each request's token, its rate, its parameters; then the operation, in a thread.

Only a bearer token counts: a cookie is not read, and no other site's page may read an answer (there is no CORS), nor
could it send a token that it does not know. A wrong token is counted as a wrong password is.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import redis
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from callbacks.ops.access.bearer_tokens import BearerTokens
from callbacks.ops.access.rate_limiter import RateLimiter
from callbacks.ops.access.request_origin import RequestOrigin
from callbacks.ops.access.sign_in_limiter import SignInLimiter
from callbacks.ops.api import openapi, problems
from callbacks.ops.api.operations import Call, Operation, parse_query
from callbacks.ops.status.history_tables import TablesUnavailable
from shared.setting_values import OperatorToken
from shared.settings import Settings
from shared.structured_log import get_logger
from workers.admin.message_forms import to_plain

log = get_logger("callbacks.ops")
_BASE: Final = "/api"
_MAX_PATH_CHARACTERS: Final = 300


def routes(settings: Settings, origin: RequestOrigin, operations: Sequence[Operation]) -> list[Route]:
    """Return the routes of the operations, of the OpenAPI document, and of all that does not exist below `/api`."""
    gate = _Gate(settings, origin)
    by_path: dict[str, dict[str, Operation]] = {}
    for one in operations:
        by_path.setdefault(one.path, {})[one.method] = one
    document = msgspec.json.encode(openapi.document(operations))

    async def show_document(_: Request) -> Response:
        return Response(document, media_type="application/json")

    return [
        Route(f"{_BASE}/openapi.json", show_document),
        *(Route(path, _Resource(gate, of_path)) for path, of_path in by_path.items()),
        Route(f"{_BASE}/{{path:path}}", _Resource(gate, {})),
    ]


class _Resource:
    """One path (ASGI), with its operations by method."""

    def __init__(self, gate: "_Gate", operations: Mapping[str, Operation]) -> None:
        self._gate = gate
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope)
        try:
            response = await self._answer(request)
        except problems.ApiProblem as exc:
            response = exc.response()
        except redis.RedisError as exc:
            response = problems.redis_unavailable(type(exc).__name__).response()
        except TablesUnavailable as exc:
            response = problems.history_unavailable(str(exc)).response()
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        token = self._gate.admit(request)
        if not self._operations:
            raise problems.not_found("No operation has this path: see /api/openapi.json.")
        method = "GET" if request.method == "HEAD" else request.method
        operation = self._operations.get(method)
        if operation is None:
            allowed = [*self._operations, *(["HEAD"] if "GET" in self._operations else [])]
            raise problems.method_not_allowed(", ".join(allowed))
        if operation.role == "act" and token.role != "act":
            raise problems.role_missing("This operation")
        path: dict[str, str] = request.path_params
        if not all(0 < len(value) <= _MAX_PATH_CHARACTERS for value in path.values()):
            raise problems.not_found("This path names nothing.")
        call = Call(token, parse_query(operation.query, request.query_params), path)
        found = await run_in_threadpool(operation.call, call)
        return Response(msgspec.json.encode(to_plain(found)), media_type="application/json")


class _Gate:
    """Lets requests with a known token pass, at their rate."""

    def __init__(self, settings: Settings, origin: RequestOrigin) -> None:
        self._tokens = BearerTokens(settings.ops_tokens)
        self._rates = RateLimiter(settings.ops_requests_per_minute)
        self._wrong = SignInLimiter()
        self._origin = origin

    def admit(self, request: Request) -> OperatorToken:
        """Return the token of a request. Raise ApiProblem."""
        # Several are one unknown token: a proxy may have checked another of them than the first.
        given = ", ".join(request.headers.getlist("authorization"))
        if not given:
            raise problems.no_token()
        address = self._origin.address(request.scope)
        token = self._tokens.find(given)
        wait_seconds = self._wrong.wait_seconds(address)
        # Clients may share an address: one with an old token must not shut out those whose token was right before.
        if wait_seconds and not (token is not None and self._wrong.is_known(address)):
            raise problems.too_many_requests(wait_seconds, "There were too many wrong tokens.")
        if token is None:
            self._wrong.record_failure(address)
            log.warning("api_refused", why="wrong_token", address=address)
            raise problems.wrong_token()
        self._wrong.record_success(address)
        wait_seconds = self._rates.take(token.name)
        if wait_seconds:
            raise problems.too_many_requests(wait_seconds, "This token is used too often.")
        return token
