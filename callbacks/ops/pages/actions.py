"""The page *Actions*: what operators did, on the page and on the command line, and how what is under way is going."""

import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from callbacks.ops.access.sessions import operator
from callbacks.ops.html.rendering import render_notice, render_page
from callbacks.ops.pages.bulk_actions import BulkActionRunner, TooManyActions
from callbacks.ops.pages.failure_pages import is_failure_id
from shared.settings import Settings
from workers.admin.action_log import Trail
from workers.admin.bulk_action import NotLeft
from workers.failures.cursor import Place

_ROWS = 50


def routes(client: redis.Redis, _: Settings, *, bulk_actions: BulkActionRunner) -> list[Route]:
    """Give the page's routes."""
    trail = Trail(client)

    def list_actions(request: Request) -> Response:
        text = request.query_params.get("after", "")
        try:
            after = Place.of(text) if text else None
        except ValueError:
            raise HTTPException(400) from None
        part = trail.latest(after=after, most=_ROWS)
        return render_page(request, "actions.html", actions=part.found, place=part.place, is_first=after is None)

    def show(request: Request) -> Response:
        action_id = request.path_params["action_id"]
        # Beside what is noted of an act, under the same prefix, stands what is none.
        standing = bulk_actions.get_state(action_id) if is_failure_id(action_id) else None
        if standing is None:
            raise HTTPException(404)
        noted, work = standing.noted, standing.work
        is_interrupted = noted.state == "running" and noted.by == "page" and not standing.is_carried_out
        return render_page(
            request,
            "action.html",
            logged_action=noted,
            failures=() if work is None else work.failures,
            is_running=noted.state == "running" and not is_interrupted,
            is_interrupted=is_interrupted,
            can_resume=work is not None and not work.is_finished and not standing.is_carried_out,
            back=_back(noted.where),
        )

    def stop(request: Request) -> Response:
        action_id = request.path_params["action_id"]
        bulk_actions.stop(action_id)
        bulk_actions.wait(action_id, seconds=1.0)
        return RedirectResponse(f"/actions/{action_id}", 303)

    def resume(request: Request) -> Response:
        try:
            rest = bulk_actions.resume(request.path_params["action_id"], operator(request))
        except NotLeft as exc:
            return render_notice(request, 409, "There is nothing to go on with", str(exc))
        except TooManyActions as exc:
            return render_notice(request, 503, "Nothing was done", str(exc))
        bulk_actions.wait(rest, seconds=1.0)
        return RedirectResponse(f"/actions/{rest}", 303)

    return [
        Route("/actions", list_actions),
        Route("/actions/{action_id}", show),
        Route("/actions/{action_id}/stop", stop, methods=["POST"]),
        Route("/actions/{action_id}/resume", resume, methods=["POST"]),
    ]


def _back(where: str) -> str:
    """Give the address of the shelf, or of the handlers."""
    kind, _, handler = where.partition(":")
    if kind == "quarantine":
        return "/quarantine"
    return f"/dead-letters/{handler}" if kind == "dead" else "/dead-letters"
