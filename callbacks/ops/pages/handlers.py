"""The page of a handler, linked from *Now*: its rate, failures and times, and why it is paused and until when.

Pausing and resuming it is confirmed on a page of its own, and logged as an action.
"""

from typing import Final, Literal
from urllib.parse import quote

import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from callbacks.ops.access.sessions import may_act, operator
from callbacks.ops.html.renderer import NO_RIGHT, render_notice, render_page
from callbacks.ops.status import service_status
from shared.recent_outcomes import WINDOW_SECONDS
from shared.settings import Settings
from workers.admin.action_log import Action, ActionLog
from workers.failures.failure_list import handler_names
from workers.runtime import pause

_WHAT: Final[tuple[Literal["resume", "pause"], ...]] = ("resume", "pause")


def routes(client: redis.Redis, settings: Settings) -> list[Route]:
    """Return the routes."""
    action_log = ActionLog(client)

    def show(request: Request) -> Response:
        status = service_status.read_handler(client, settings, request.path_params["handler"])
        if status is None:
            raise HTTPException(404)
        return render_page(
            request,
            "handler.html",
            at=status,
            per_second=status.tried / WINDOW_SECONDS,
            pausing=pause.read_state(client, status.handler),
        )

    def ask(request: Request) -> Response:
        handler, what = _parse_path(client, request)
        if not may_act(request):
            return render_notice(request, 403, f"You may not {what} this handler", NO_RIGHT)
        return render_page(
            request, "pause_handler.html", handler=handler, what=what, pausing=pause.read_state(client, handler)
        )

    def apply(request: Request) -> Response:
        handler, what = _parse_path(client, request)
        with action_log.record(Action(who=operator(request), by="page", what=what, where=f"handler:{handler}")):
            if what == "pause":
                pause.pause(client, handler)
            else:
                pause.resume(client, handler)
        return RedirectResponse(f"/handlers/{quote(handler, safe='')}", 303)

    return [
        Route("/handlers/{handler}", show),
        Route("/handlers/{handler}/{what}", ask, methods=["GET"]),
        Route("/handlers/{handler}/{what}", apply, methods=["POST"]),
    ]


def _parse_path(client: redis.Redis, request: Request) -> tuple[str, Literal["resume", "pause"]]:
    handler = request.path_params["handler"]
    for what in _WHAT:
        if request.path_params["what"] == what and handler in handler_names(client):
            return handler, what
    raise HTTPException(404)
