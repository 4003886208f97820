"""The page *Dead letters*: the events that each handler failed to process, and why. A replay goes to that handler."""

from typing import Final
from urllib.parse import quote

import msgspec
import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from callbacks.ops.access.sessions import may_act, operator
from callbacks.ops.html.forms import field
from callbacks.ops.html.renderer import NO_RIGHT, render_notice, render_page
from callbacks.ops.pages import dead_letter_export
from callbacks.ops.pages.bulk_actions import BulkActionRunner
from callbacks.ops.pages.failure_pages import (
    ROWS,
    SHOWN_CHARACTERS,
    FailurePages,
    ListLabels,
    download,
    is_failure_id,
    render_not_found,
)
from callbacks.ops.status import snapshot
from shared import events, queues
from shared.settings import Settings
from workers.admin import error_groups
from workers.admin.number_views import NumberViews
from workers.failures import failure, store
from workers.failures.failure import FailureNotFound
from workers.failures.failure_list import FailureList, dead_letters_of, handler_names
from workers.handlers.mask import mask_event
from workers.runtime import pause

BASE: Final = "/dead-letters"


def routes(
    client: redis.Redis, settings: Settings, number_views: NumberViews, *, bulk_actions: BulkActionRunner
) -> list[Route]:
    """Return the page's routes."""
    pages = FailurePages(client, bulk_actions)

    def record_view(request: Request, failure_list: FailureList) -> None:
        number_views.record(who=operator(request), by="page", where=f"dead:{failure_list.handler}", count=1)

    def overview(request: Request) -> Response:
        found = snapshot.read_snapshot(client, settings.durability)
        by_name = {queue.name: queue for queue in found.queues}
        rows = [(name, number, by_name[queues.delivery_queue(name)]) for name, number in found.dead.items()]
        return render_page(request, "dead_letters.html", rows=rows)

    def list_failures(request: Request) -> Response:
        failure_list, labels = _named_list(client, request)
        return pages.list_page(request, failure_list, labels)

    def list_errors(request: Request) -> Response:
        failure_list, labels = _named_list(client, request)
        found = error_groups.read_groups(client, str(failure_list.handler))
        return render_page(
            request, "dead_letter_errors.html", labels=labels, failure_list=failure_list, found=found, most=ROWS
        )

    def export(request: Request) -> Response:
        failure_list, _ = _named_list(client, request)
        return dead_letter_export.respond(client, request, failure_list)

    def confirm(request: Request) -> Response:
        failure_list, labels = _named_list(client, request)
        pausing = pause.read_state(client, str(failure_list.handler))
        return pages.confirm_page(request, failure_list, labels, paused_by="" if pausing is None else pausing.by)

    def run(request: Request) -> Response:
        return pages.run_action(request, _named_list(client, request)[0])

    def show(request: Request) -> Response:
        failure_list, labels = _named_list(client, request)
        failure_id = request.path_params["failure_id"]
        is_whole = request.method == "POST" and field(request, "numbers") == "full"
        if is_whole and not may_act(request):
            return render_notice(request, 403, "Whole numbers are not shown", NO_RIGHT)
        try:
            row, traceback, event = _read(client, failure_list, failure_id, is_whole=is_whole)
        except FailureNotFound as exc:
            return render_not_found(request, exc, labels)
        if is_whole:
            record_view(request, failure_list)
        return render_page(
            request,
            "dead_letter.html",
            masked=not is_whole,
            labels=labels,
            failure=row,
            traceback=traceback,
            event=event,
            most=SHOWN_CHARACTERS,
        )

    def event(request: Request) -> Response:
        failure_list, labels = _named_list(client, request)
        failure_id = request.path_params["failure_id"]
        try:
            *_, text = _read(client, failure_list, failure_id, is_whole=may_act(request))
        except FailureNotFound as exc:
            return render_not_found(request, exc, labels)
        if may_act(request):
            record_view(request, failure_list)
        return download(f"{failure_list.handler}-{failure_id}", text.encode(errors="replace"))

    one = f"{BASE}/{{handler}}"
    return [
        Route(BASE, overview),
        Route(one, list_failures),
        Route(f"{one}/confirm", confirm, methods=["POST"]),
        Route(f"{one}/actions", run, methods=["POST"]),
        Route(f"{one}/errors", list_errors),
        Route(f"{one}/export.{{extension}}", export, methods=["GET", "POST"]),
        Route(f"{one}/{{failure_id}}", show, methods=["GET", "POST"]),
        Route(f"{one}/{{failure_id}}/event", event),
    ]


def _named_list(client: redis.Redis, request: Request) -> tuple[FailureList, ListLabels]:
    """Return the failure list of the handler in the path, and its labels. Raise 404 for an unknown handler."""
    handler = request.path_params["handler"]
    if handler not in handler_names(client):
        raise HTTPException(404)
    labels = ListLabels(
        path=f"{BASE}/{quote(handler, safe='')}",
        title=f"Dead letters of {handler}",
        singular=f"dead letter of {handler}",
        plural=f"dead letters of {handler}",
    )
    return dead_letters_of(handler), labels


def _read(
    client: redis.Redis, failure_list: FailureList, failure_id: str, *, is_whole: bool
) -> tuple[failure.DeadLetterRow, str, str]:
    """Return a dead letter's row, its traceback and its event as JSON; an event that cannot be decoded, as stored.

    Unless `is_whole`, numbers and texts are masked, and an event that cannot be decoded is not returned.
    """
    if not is_failure_id(failure_id):
        raise FailureNotFound
    ((_, values),) = store.read_fields(client, failure_list, [failure_id], failure.DEAD_LETTER_FIELDS)
    if values[0] is None:
        raise FailureNotFound
    row = failure.parse_dead_letter_row(
        str(failure_list.handler), failure_id, values[: len(failure.DEAD_LETTER_ROW_FIELDS)]
    )
    *_, whole_error, whole_traceback, traceback, event = values
    if is_whole and whole_error:
        row = msgspec.structs.replace(row, error=whole_error.decode(errors="replace"))
    if is_whole and whole_traceback:
        traceback = whole_traceback
    try:
        (read,) = events.decode(b"[%s]" % event)
    except msgspec.DecodeError:
        stored = event.decode(errors="replace") if is_whole else "It cannot be decoded, and may hold whole numbers."
        return row, traceback.decode(errors="replace"), stored
    text = msgspec.json.format((read if is_whole else mask_event(read)).to_json(), indent=2)
    return row, traceback.decode(errors="replace"), text
