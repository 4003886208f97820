"""What every request to the operators' page passes before an endpoint sees it, in one place.

    metrics, audit, health, files of the page    open to all: they show no event
    no password is set                           the Host must name this machine; everybody is "local"
    a password is set                            only sign-in is open; the rest asks for a session
    anything but GET and HEAD                    must send a form of ours: same origin, and its token
    GET and HEAD from another site               only where somebody follows a link: no image, script or fetch

Every answer leaves with the headers that keep a browser from running, framing, guessing at or keeping what it shows.
"""

from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from callbacks.ops.access.sessions import RENEW_SECONDS, Sessions, Visit
from callbacks.ops.access.signed_out import SignedOut
from callbacks.ops.access.visitors import Visitors
from callbacks.ops.html import forms
from callbacks.ops.html.rendering import notice

OPEN: Final = frozenset(("/metrics", "/audit", "/livez", "/readyz"))
SIGN_IN: Final = "/sign-in"
# The query of a page that asks again by itself: nobody need be sitting there, so that the session still ends.
AGAIN: Final = "again"

_READING: Final = frozenset(("GET", "HEAD"))
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


class Guard:
    """The middleware (ASGI)."""

    def __init__(self, app: ASGIApp, *, sessions: Sessions, visitors: Visitors, signed_out: SignedOut) -> None:
        self._app = app
        self._sessions = sessions
        self._visitors = visitors
        self._signed_out = signed_out

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] in OPEN or scope["path"].startswith("/static/"):
            await self._app(scope, receive, _with_headers(send))
            return
        if not self._sessions.needed and not self._visitors.is_local_name(scope):
            answer = PlainTextResponse("Without a password this page is there as 127.0.0.1 and localhost only.\n", 421)
            await answer(scope, receive, _with_headers(send))
            return
        visit = await self._visit(scope)
        refusal, receive = await self._judged(visit, scope, receive)
        await (refusal or self._app)(scope, receive, self._keeping(visit, scope, send))

    async def _visit(self, scope: Scope) -> Visit:
        """Find the session that the browser's cookie holds, or begin one for nobody."""
        cookies = Request(scope).cookies
        given = self._sessions.open(cookies.get(self._sessions.cookie(secure=self._visitors.secure(scope)), ""))
        if given is not None and await self._signed_out.holds(given):
            given = None
        session = self._sessions.begin() if given is None else given
        if not _asks_by_itself(scope):
            renewed = self._sessions.renewed(session)
            if renewed.seen_seconds >= session.seen_seconds + RENEW_SECONDS:
                session = renewed
        visit = Visit(session, given, self._sessions.token(session))
        visit.put(scope)
        return visit

    async def _judged(self, visit: Visit, scope: Scope, receive: Receive) -> tuple[Response | None, Receive]:
        """Give an answer if the request goes no further; and from where the endpoint is to read it."""
        request = Request(scope)
        reading = scope["method"] in _READING
        is_known = bool(visit.session.name) or not self._sessions.needed
        if reading and not self._visitors.is_own_reading(scope):
            return PlainTextResponse("This is not for pages of other sites.\n", 403), receive
        if not is_known and scope["path"] != SIGN_IN:
            return _to_sign_in(request) if reading else notice(request, 401, "Please sign in", _ENDED), receive
        if reading:
            return None, receive
        if not self._visitors.is_own_form(scope):
            return notice(
                request, 403, "Nothing was done", "That came from another site, not from a page here."
            ), receive
        try:
            body = await forms.read(
                scope, receive, most_bytes=forms.MOST_BYTES if is_known else forms.MOST_BYTES_OF_STRANGERS
            )
        except forms.Unreadable as exc:
            return notice(request, exc.status_code, "Nothing was done", str(exc)), receive
        if not self._sessions.is_token(visit.session, forms.first(request, "csrf")):
            return notice(request, 403, "Nothing was done", _STALE), receive
        return None, _again(body, receive)

    def _keeping(self, visit: Visit, scope: Scope, send: Send) -> Send:
        """Send with our headers, and with the session if it is not what the browser has."""
        secure = self._visitors.secure(scope)

        async def keeping(message: Message) -> None:
            if message["type"] == "http.response.start" and visit.session != visit.given:
                headers = MutableHeaders(scope=message)
                headers.append("set-cookie", self._sessions.set_cookie(visit.session, secure=secure))
            await send(message)

        return _with_headers(keeping)


_ENDED: Final = "Your session has ended. Sign in, then do it again."
_STALE: Final = "The form was older than your session, or not one of ours. Go back, load the page anew, and try again."


def _asks_by_itself(scope: Scope) -> bool:
    """Tell whether nobody need be sitting there: a page looks again, or its script connects again."""
    return AGAIN.encode() in scope["query_string"].split(b"&") or _wants_stream(scope)


def _wants_stream(scope: Scope) -> bool:
    return "text/event-stream" in Headers(scope=scope).get("accept", "")


def _to_sign_in(request: Request) -> Response:
    if _wants_stream(request.scope):
        return PlainTextResponse("Sign in first.\n", 401)
    path, query = request.url.path, request.url.query
    wanted = "" if path == "/" else f"?next={quote(f'{path}?{query}' if query else path, safe='')}"
    return RedirectResponse(f"{SIGN_IN}{wanted}", 303)


def _again(body: bytes, receive: Receive) -> Receive:
    """Give the body once more, to who may want to read it in another way."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
