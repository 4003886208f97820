"""The access rules that every request to the operators' pages must pass, in one place.

    metrics, audit, health, files of the page    open to all: they show no events
    /api                                         asks for a bearer token itself; a cookie counts for nothing there
    no way to sign in is set                     the Host must name this machine; every user is "local"
    a password or a proxy's header is set        only sign-in is open; all else needs a session, or the header
    anything but GET and HEAD                    must be a form of this service: same origin and CSRF token
    a form that acts                             needs the role "act"
    GET and HEAD from another site               only when a user follows a link: no image, script or fetch

Every response has headers that keep a browser from running, framing, sniffing or storing its content.
"""

from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callbacks.ops.access.proxy_users import ProxyUsers
from callbacks.ops.access.request_origin import RequestOrigin
from callbacks.ops.access.revoked_sessions import RevokedSessions
from callbacks.ops.access.sessions import LOCAL, RENEW_SECONDS, RequestSession, Session, SessionSigner, User
from callbacks.ops.html import forms
from callbacks.ops.html.renderer import NO_RIGHT, render_notice

OPEN_PATHS: Final = frozenset(("/metrics", "/audit", "/livez", "/readyz"))
API_PATH: Final = "/api"
SIGN_IN_PATH: Final = "/sign-in"
SIGN_OUT_PATH: Final = "/sign-out"
# These forms change nothing; what they ask for is no part of an address.
_READING_FORMS: Final = frozenset((SIGN_IN_PATH, SIGN_OUT_PATH, "/messages", "/live", "/live/events"))
# The query of automatic refreshes. They do not renew the session, since nobody may be watching.
REFRESH: Final = "refresh"

_SAFE_METHODS: Final = frozenset(("GET", "HEAD"))
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class AccessMiddleware:
    """The middleware (ASGI)."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        sessions: SessionSigner,
        origin: RequestOrigin,
        revoked: RevokedSessions,
        proxy_users: ProxyUsers,
        is_sign_in_required: bool,
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._proxy_users = proxy_users
        self._is_sign_in_required = is_sign_in_required
        self._origin = origin
        self._revoked = revoked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] in OPEN_PATHS or scope["path"].startswith(("/static/", f"{API_PATH}/")):
            await self._app(scope, receive, _with_headers(send))
            return
        if not self._is_sign_in_required and not self._origin.is_local_host(scope):
            answer = PlainTextResponse(
                "Without CALLBACKS_OPS_PASSWORD this service answers only as 127.0.0.1 and localhost.\n", 421
            )
            await answer(scope, receive, _with_headers(send))
            return
        request_session = await self._load_session(scope)
        response, receive = await self._check(request_session, scope, receive)
        await (response or self._app)(scope, receive, self._with_cookie(request_session, scope, send))

    async def _load_session(self, scope: Scope) -> RequestSession:
        """Return the session in the browser's cookie, or a new one that is not signed in."""
        cookies = Request(scope).cookies
        given = self._sessions.verify(cookies.get(self._sessions.cookie_name(secure=self._origin.is_https(scope)), ""))
        if given is not None and await self._revoked.is_revoked(given):
            given = None
        session = self._sessions.create() if given is None else given
        if not _is_automatic(scope):
            renewed = self._sessions.renew(session)
            if renewed.seen_seconds >= session.seen_seconds + RENEW_SECONDS:
                session = renewed
        request_session = RequestSession(
            session, given, self._sessions.csrf_token(session), self._proxy_users.find(scope) or self._user(session)
        )
        request_session.attach(scope)
        return request_session

    def _user(self, session: Session) -> User | None:
        if not self._is_sign_in_required:
            return User(LOCAL, "act")
        return User(session.name, session.role) if session.name else None

    async def _check(
        self, request_session: RequestSession, scope: Scope, receive: Receive
    ) -> tuple[Response | None, Receive]:
        """Return a response if the request is refused, and the `receive` that the endpoint must use."""
        request = Request(scope)
        is_safe = scope["method"] in _SAFE_METHODS
        user = request_session.user
        if is_safe and not self._origin.allows_read(scope):
            return PlainTextResponse("Requests from pages of other sites are refused.\n", 403), receive
        if user is None and scope["path"] != SIGN_IN_PATH:
            return _redirect_to_sign_in(request) if is_safe else render_notice(
                request, 401, "Please sign in", _SESSION_ENDED
            ), receive
        if is_safe:
            return None, receive
        if user is not None and user.role != "act" and scope["path"] not in _READING_FORMS:
            return render_notice(request, 403, "Nothing was changed", NO_RIGHT), receive
        if not self._origin.allows_form(scope):
            return render_notice(
                request, 403, "Nothing was changed", "The form came from another site, not from a page of this service."
            ), receive
        try:
            body = await forms.parse(
                scope, receive, max_bytes=forms.MAX_BYTES if user is not None else forms.MAX_BYTES_SIGNED_OUT
            )
        except forms.FormError as exc:
            return render_notice(request, exc.status_code, "Nothing was changed", str(exc)), receive
        if not self._sessions.verify_csrf_token(request_session.session, forms.field(request, "csrf")):
            return render_notice(request, 403, "Nothing was changed", _STALE_FORM), receive
        return None, _replay_body(body, receive)

    def _with_cookie(self, request_session: RequestSession, scope: Scope, send: Send) -> Send:
        """Return a `send` that adds the security headers, and the cookie if the session has changed."""
        secure = self._origin.is_https(scope)

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and request_session.session != request_session.received:
                headers = MutableHeaders(scope=message)
                headers.append("set-cookie", self._sessions.cookie_header(request_session.session, secure=secure))
            await send(message)

        return _with_headers(send_with_cookie)


_SESSION_ENDED: Final = "Your session has ended. Sign in, then try again."
_STALE_FORM: Final = "The form is older than your session. Go back, reload the page, and try again."


def _is_automatic(scope: Scope) -> bool:
    """Return whether a page or its script sent the request by itself."""
    return REFRESH.encode() in scope["query_string"].split(b"&") or _wants_stream(scope)


def _wants_stream(scope: Scope) -> bool:
    return "text/event-stream" in Headers(scope=scope).get("accept", "")


def _redirect_to_sign_in(request: Request) -> Response:
    if _wants_stream(request.scope):
        return PlainTextResponse("Sign in first.\n", 401)
    path, query = request.url.path, request.url.query
    wanted = "" if path == "/" else f"?next={quote(f'{path}?{query}' if query else path, safe='')}"
    return RedirectResponse(f"{SIGN_IN_PATH}{wanted}", 303)


def _replay_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that yields the body again for the endpoint."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
