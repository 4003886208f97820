"""The page *Actions*: the actions of operators on these pages and on the command line, and their progress."""

from urllib.parse import quote

import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from callbacks.ops.access.sessions import operator
from callbacks.ops.html.renderer import render_notice, render_page
from callbacks.ops.pages.bulk_actions import BulkActionRunner, TooManyActions
from callbacks.ops.pages.failure_pages import is_failure_id
from shared.settings import Settings
from workers.admin import replay_outcome
from workers.admin.action_log import ActionLog, LoggedAction
from workers.admin.bulk_action import NothingToResume, RemainingWork, Work
from workers.failures.cursor import Cursor
from workers.runtime import pause

_ROWS = 50


def routes(client: redis.Redis, _: Settings, *, bulk_actions: BulkActionRunner) -> list[Route]:
    """Return the page's routes."""
    action_log = ActionLog(client)

    def list_actions(request: Request) -> Response:
        text = request.query_params.get("after", "")
        try:
            after = Cursor.parse(text) if text else None
        except ValueError:
            raise HTTPException(400) from None
        part = action_log.list_newest(after=after, limit=_ROWS)
        return render_page(
            request, "actions.html", actions=part.items, next_cursor=part.next_cursor, is_first=after is None
        )

    def show(request: Request) -> Response:
        action_id = request.path_params["action_id"]
        # Other keys have the same prefix; the check keeps them from being read as actions.
        state = bulk_actions.get_state(action_id) if is_failure_id(action_id) else None
        if state is None:
            raise HTTPException(404)
        logged, work = state.action, state.work
        # A command without work left behind may run without a lease.
        is_interrupted = (
            logged.state == "running" and (logged.by == "page" or work is not None) and not state.is_running
        )
        return render_page(
            request,
            "action.html",
            logged_action=logged,
            errors=() if work is None else work.errors,
            outcome=replay_outcome.read_outcome(client, logged),
            is_running=logged.state == "running" and not is_interrupted,
            is_interrupted=is_interrupted,
            can_stop=state.is_running,
            left_seconds=_left_seconds(logged, work),
            paused_by=_paused_by(client, work),
            can_resume=work is not None and not work.is_finished and not state.is_running,
            back=_back(logged.where),
        )

    def stop(request: Request) -> Response:
        action_id = request.path_params["action_id"]
        bulk_actions.stop(action_id)
        bulk_actions.wait(action_id, seconds=1.0)
        return RedirectResponse(f"/actions/{action_id}", 303)

    def resume(request: Request) -> Response:
        try:
            rest = bulk_actions.resume(request.path_params["action_id"], operator(request))
        except NothingToResume as exc:
            return render_notice(request, 409, "Nothing to resume", str(exc))
        except TooManyActions as exc:
            return render_notice(request, 503, "Nothing was changed", str(exc))
        bulk_actions.wait(rest, seconds=1.0)
        return RedirectResponse(f"/actions/{rest}", 303)

    return [
        Route("/actions", list_actions),
        Route("/actions/{action_id}", show),
        Route("/actions/{action_id}/stop", stop, methods=["POST"]),
        Route("/actions/{action_id}/resume", resume, methods=["POST"]),
    ]


def _left_seconds(action: LoggedAction, work: Work | None) -> float | None:
    """Return how long an action with a rate limit still takes, if that is known."""
    if not isinstance(work, RemainingWork) or work.per_second is None or action.number is None:
        return None
    return max(action.number - action.done - action.failed, 0) / work.per_second


def _paused_by(client: redis.Redis, work: Work | None) -> str:
    """Return who has paused the handler for which an action with a rate limit waits; "" if it does not wait."""
    if not isinstance(work, RemainingWork) or work.per_second is None or work.is_finished or work.handler is None:
        return ""
    found = pause.read_state(client, work.handler)
    return "" if found is None else found.by


def _back(where: str) -> str:
    """Return the path of the failure list, of the retries or of the handler."""
    kind, _, handler = where.partition(":")
    if kind == "retries":
        return f"/retries?handler={quote(handler, safe='')}" if handler else "/retries"
    if kind in ("quarantine", "messages", "live"):
        return f"/{kind}"
    if kind in ("people", "sealed"):
        return "/actions"
    if kind == "events":  # only /api lists them
        return "/messages"
    return f"/dead-letters/{handler}" if kind == "dead" else f"/handlers/{quote(handler, safe='')}"
