"""The page *Retries*: events that failed and wait for their next attempt, with the last error.

They can be tried now, or given up on. It shows one page, the first to be tried first, and scans a bounded number of
retries for it. Both actions are confirmed on a page of their own, logged, and run in the background, as what is done
with failures does.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, get_args
from urllib.parse import quote, urlencode

import msgspec
import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from callbacks.ops.access.sessions import operator
from callbacks.ops.html.forms import field
from callbacks.ops.html.renderer import render_notice, render_page
from callbacks.ops.pages.bulk_actions import BulkActionRunner, TooManyActions
from callbacks.ops.pages.failure_pages import FILTER_CHARACTERS, ROWS, WAIT_SECONDS, parse_action_id, parse_ids
from shared import queues
from workers.admin import action_log, scheduled_retries
from workers.admin.action_log import Action, AlreadyStarted
from workers.admin.bulk_action import RemainingRetries, RetryTask
from workers.admin.retry_rows import RetryCursor, RetryFilter
from workers.admin.scheduled_retries import MAX_SCANNED, ScheduledRetries
from workers.runtime import pause

BASE: Final = "/retries"
# As RQ writes the time at which a job was made.
_JOB_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{15}Z")


def routes(client: redis.Redis, *, bulk_actions: BulkActionRunner) -> list[Route]:
    """Return the page's routes."""
    retries = ScheduledRetries(client)

    def list_retries(request: Request) -> Response:
        query = request.query_params
        wanted = _parse_filter({name: query.get(name, "") for name in ("handler", "error", "message")})
        after = _parse_cursor(query.get("after", ""))
        part = retries.read_page(wanted, after=after, limit=ROWS)
        now = datetime.now(UTC)
        sizes = retries.count()
        return render_page(
            request,
            "retries.html",
            rows=[(row, (row.next_at - now).total_seconds()) for row in part.rows],
            wanted=wanted,
            sizes=sizes,
            size=sum(sizes.values()),
            paused=_paused(client, sizes),
            first_page=_url(wanted) if after is not None else None,
            next_page=None if part.next_cursor is None else _url(wanted, after=part.next_cursor.text),
            scanned=part.scanned,
        )

    def confirm(request: Request) -> Response:
        task, scope = _parse_button(request)
        wanted = _parse_form_filter(request)
        ids = parse_ids(request) if scope == "selected" else ()
        if scope == "selected" and not ids:
            back = _url(wanted), "the list"
            return render_notice(
                request, 400, "Nothing is selected", "Go back and select retries, or choose all.", back=back
            )
        rows = retries.read_named(ids)
        number = len(rows) if scope == "selected" else _count(retries, wanted)
        return render_page(
            request,
            "retries_confirm.html",
            task=task,
            scope=scope,
            rows=rows,
            gone=len(ids) - len(rows),
            wanted=wanted,
            number=number,
            scanned=MAX_SCANNED,
            paused=_paused(client, {row.handler: 1 for row in rows} if ids else retries.count()),
            back=_url(wanted),
            created_until=queues.job_time(),
            action_id=action_log.new_id(),
        )

    def run(request: Request) -> Response:
        task, scope = _parse_button(request)
        wanted, action_id = _parse_form_filter(request), parse_action_id(request)
        if scope == "selected":
            work = RemainingRetries(task=task, job_ids=parse_ids(request))
            chosen, where = action_log.describe_ids(len(work.job_ids)), scheduled_retries.retries_where("")
            number: int | None = len(work.job_ids)
        else:
            created_until = field(request, "created_until")
            if not _JOB_TIME.fullmatch(created_until):
                raise HTTPException(400)
            # Those that fail again meanwhile are other retries.
            retry_filter = msgspec.structs.replace(wanted, created_until=created_until)
            work = RemainingRetries(task=task, retry_filter=retry_filter, cursor=RetryCursor())
            chosen, where = scheduled_retries.describe_retries(wanted), scheduled_retries.retries_where(wanted.handler)
            number = _count(retries, work.retry_filter)
        action = Action(who=operator(request), by="page", what=task, where=where, chosen=chosen, number=number)
        try:
            bulk_actions.start(action, work, action_id)
        except AlreadyStarted:
            pass  # a double click: both lead to the same page
        except TooManyActions as exc:
            return render_notice(request, 503, "Nothing was changed", str(exc))
        bulk_actions.wait(action_id, seconds=WAIT_SECONDS)
        return RedirectResponse(f"/actions/{action_id}", 303)

    return [
        Route(BASE, list_retries),
        Route(f"{BASE}/confirm", confirm, methods=["POST"]),
        Route(f"{BASE}/actions", run, methods=["POST"]),
    ]


def _count(retries: ScheduledRetries, wanted: RetryFilter) -> int | None:
    """Return how many retries match, None if there are too many to scan."""
    sizes = retries.count()
    if wanted == RetryFilter(handler=wanted.handler):
        return sizes.get(wanted.handler, 0) if wanted.handler else sum(sizes.values())
    part = retries.read_page(wanted, limit=MAX_SCANNED)
    return len(part.rows) if part.next_cursor is None else None


def _paused(client: redis.Redis, handlers: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return those of the handlers that are paused, each with who paused it."""
    states = ((handler, pause.read_state(client, handler)) for handler in handlers)
    return [(handler, state.by) for handler, state in states if state is not None]


def _parse_filter(given: Mapping[str, str]) -> RetryFilter:
    if any(len(value) > FILTER_CHARACTERS for value in given.values()):
        raise HTTPException(400)
    return RetryFilter(handler=given["handler"], error=given["error"].strip(), message=given["message"].strip())


def _parse_form_filter(request: Request) -> RetryFilter:
    return _parse_filter({name: field(request, name) for name in ("handler", "error", "message")})


def _parse_cursor(text: str) -> RetryCursor | None:
    try:
        return RetryCursor.parse(text) if text else None
    except ValueError:
        raise HTTPException(400) from None


def _parse_button(request: Request) -> tuple[RetryTask, str]:
    """Return task and scope of the button, as in "retry-selected" or "give_up-all"."""
    name, _, scope = field(request, "do").partition("-")
    for task in get_args(RetryTask):
        if name == task and scope in ("selected", "all"):
            return task, scope
    raise HTTPException(400)


def _url(wanted: RetryFilter, **more: Any) -> str:
    given = {"handler": wanted.handler, "error": wanted.error, "message": wanted.message} | more
    query = {name: value for name, value in given.items() if value}
    return f"{BASE}?{urlencode(query, quote_via=quote)}" if query else BASE
