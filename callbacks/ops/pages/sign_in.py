"""Sign-in and sign-out: a name, which the action log shows, and the password of the service."""

import asyncio
import re
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from callbacks.ops.access import sessions
from callbacks.ops.access.request_origin import RequestOrigin
from callbacks.ops.access.revoked_sessions import RevokedSessions
from callbacks.ops.access.sessions import NAME_CHARACTERS, SessionSigner
from callbacks.ops.access.sign_in_limiter import SignInLimiter
from callbacks.ops.html import forms
from callbacks.ops.html.renderer import render_notice, render_page
from shared.setting_values import Role
from shared.structured_log import get_logger

log = get_logger("callbacks.ops")
# A path of this service, and nothing that a browser could take for another host.
_OWN_PATH: Final = re.compile(r"/(?![/\\])[!-\[\]-~]*")
_WRONG: Final = "Wrong password."
_PROXY_ONLY: Final = "The proxy in front of this page signs users in, and it has named none. Open this page through it."
_BAD_NAME: Final = f"Enter a name of 1 to {NAME_CHARACTERS} letters, digits, spaces and . _ - @."
_NAME: Final = re.compile(rf"[\w.@-][\w .@-]{{0,{NAME_CHARACTERS - 1}}}")


class SignInPages:
    """The endpoints of sign-in and sign-out."""

    def __init__(self, *, sessions: SessionSigner, origin: RequestOrigin, revoked: RevokedSessions) -> None:
        self._sessions = sessions
        self._origin = origin
        self._revoked = revoked
        self._limiter = SignInLimiter()

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/sign-in", self._form, methods=["GET"]),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
        ]

    async def _form(self, request: Request) -> Response:
        wanted = _own_path(request.query_params.get("next", "/"))
        request_session = sessions.request_session(request)
        if request_session is not None and request_session.user is not None:
            return RedirectResponse(wanted, 303)
        if not self._sessions.has_password:
            return render_notice(request, 401, "Please sign in", _PROXY_ONLY)
        return _render_form(request, wanted=wanted)

    async def _sign_in(self, request: Request) -> Response:
        name, wanted = forms.field(request, "name"), _own_path(forms.field(request, "next"))
        address = self._origin.address(request.scope)
        wait_seconds = self._limiter.wait_seconds(address)
        if wait_seconds:
            log.warning("sign_in_refused", why="too_many_attempts", address=address)
            problem = f"Too many wrong passwords. Try again in {-(-wait_seconds // 60)} min."
            return _render_form(
                request, 429, name=name, wanted=wanted, problem=problem, retry_after_seconds=wait_seconds
            )
        if not _NAME.fullmatch(name):
            return _render_form(request, 422, name="", wanted=wanted, problem=_BAD_NAME)
        given = (forms.fields(request).get("password") or ("",))[0]
        role = self._sessions.verify_password(given)
        if role is None:
            self._limiter.record_failure(address)
            log.warning("sign_in_refused", why="wrong_password", address=address)
            return _render_form(request, 403, name=name, wanted=wanted, problem=_WRONG)
        self._limiter.record_success(address)
        log.info("signed_in", operator=name, role=role, address=address)
        self._start_session(request, name, role)
        return RedirectResponse(wanted, 303)

    async def _sign_out(self, request: Request) -> Response:
        request_session = sessions.request_session(request)
        if request_session is not None and request_session.session.name:
            log.info("signed_out", operator=request_session.session.name)
            await asyncio.shield(self._revoked.revoke(request_session.session))
        self._start_session(request, "")
        return RedirectResponse("/sign-in", 303)

    def _start_session(self, request: Request, name: str, role: Role = "read") -> None:
        """Start a session with a new id, which nobody can have known before."""
        request_session = sessions.request_session(request)
        if request_session is not None:
            request_session.session = self._sessions.create(name, role)


def _render_form(
    request: Request,
    status_code: int = 200,
    *,
    name: str = "",
    wanted: str,
    problem: str = "",
    retry_after_seconds: int = 0,
) -> Response:
    headers = {"retry-after": str(retry_after_seconds)} if retry_after_seconds else {}
    return render_page(
        request,
        "sign_in.html",
        status_code=status_code,
        headers=headers,
        name=name,
        next=wanted,
        problem=problem,
        name_characters=NAME_CHARACTERS,
    )


def _own_path(path: str) -> str:
    return path if _OWN_PATH.fullmatch(path) else "/"
