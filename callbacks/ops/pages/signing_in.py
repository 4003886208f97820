"""Sign-in and sign-out: a name, which the trail of actions shows, and the one password of the page."""

import asyncio
import logging
import re
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from callbacks.ops.access import sessions
from callbacks.ops.access.attempts import Attempts
from callbacks.ops.access.sessions import NAME_CHARACTERS, Sessions
from callbacks.ops.access.signed_out import SignedOut
from callbacks.ops.access.visitors import Visitors
from callbacks.ops.html import forms
from callbacks.ops.html.rendering import page

_logger: Final = logging.getLogger("callbacks.ops")
# A path of ours and nothing that a browser might take for another host.
_OURS: Final = re.compile(r"/(?![/\\])[!-\[\]-~]*")
_WRONG: Final = "That is not the password."
_NAMELESS: Final = f"Give a name of 1 to {NAME_CHARACTERS} letters, digits, blanks and . _ - @."
_NAME: Final = re.compile(rf"[\w.@-][\w .@-]{{0,{NAME_CHARACTERS - 1}}}")


class SigningIn:
    """The endpoints of it."""

    def __init__(self, *, sessions: Sessions, visitors: Visitors, signed_out: SignedOut) -> None:
        self._sessions = sessions
        self._visitors = visitors
        self._signed_out = signed_out
        self._attempts = Attempts()

    def routes(self) -> list[Route]:
        """Give where they are."""
        return [
            Route("/sign-in", self._form, methods=["GET"]),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
        ]

    async def _form(self, request: Request) -> Response:
        wanted = _ours(request.query_params.get("next", "/"))
        if not self._sessions.needed or sessions.signed_in(request):
            return RedirectResponse(wanted, 303)
        return _shown(request, wanted=wanted)

    async def _sign_in(self, request: Request) -> Response:
        name, wanted = forms.first(request, "name"), _ours(forms.first(request, "next"))
        address = self._visitors.address(request.scope)
        wait_seconds = self._attempts.wait_seconds(address)
        if wait_seconds:
            _logger.warning("action=sign_in_refused why=too_many_attempts address=%s", address)
            problem = f"Too many wrong passwords. Try again in {-(-wait_seconds // 60)} min."
            return _shown(request, 429, name=name, wanted=wanted, problem=problem, retry_after_seconds=wait_seconds)
        if not _NAME.fullmatch(name):
            return _shown(request, 422, name="", wanted=wanted, problem=_NAMELESS)
        given = (forms.form(request).get("password") or ("",))[0]
        if not self._sessions.is_password(given):
            self._attempts.failed(address)
            _logger.warning("action=sign_in_refused why=wrong_password address=%s", address)
            return _shown(request, 403, name=name, wanted=wanted, problem=_WRONG)
        self._attempts.succeeded(address)
        _logger.info("action=signed_in operator=%r address=%s", name, address)
        self._put(request, name)
        return RedirectResponse(wanted, 303)

    async def _sign_out(self, request: Request) -> Response:
        visit = sessions.visit(request)
        if visit is not None and visit.session.name:
            _logger.info("action=signed_out operator=%r", visit.session.name)
            await asyncio.shield(self._signed_out.add(visit.session))
        self._put(request, "")
        return RedirectResponse("/sign-in", 303)

    def _put(self, request: Request, name: str) -> None:
        """Begin a session with an identity of its own, which nobody can have known before."""
        visit = sessions.visit(request)
        if visit is not None:
            visit.session = self._sessions.begin(name)


def _shown(
    request: Request,
    status_code: int = 200,
    *,
    name: str = "",
    wanted: str,
    problem: str = "",
    retry_after_seconds: int = 0,
) -> Response:
    headers = {"retry-after": str(retry_after_seconds)} if retry_after_seconds else {}
    return page(
        request,
        "sign_in.html",
        status_code=status_code,
        headers=headers,
        name=name,
        next=wanted,
        problem=problem,
        name_characters=NAME_CHARACTERS,
    )


def _ours(path: str) -> str:
    return path if _OURS.fullmatch(path) else "/"
