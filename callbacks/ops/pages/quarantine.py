"""The page *Quarantine*: callbacks that could not be read, each with its error and its body as received."""

import redis
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from callbacks.ops.access.sessions import may_act, operator
from callbacks.ops.html.forms import field
from callbacks.ops.html.renderer import NO_RIGHT, render_notice, render_page
from callbacks.ops.pages.bulk_actions import BulkActionRunner
from callbacks.ops.pages.failure_pages import (
    SHOWN_CHARACTERS,
    FailurePages,
    ListLabels,
    download,
    is_failure_id,
    render_not_found,
)
from shared.settings import Settings
from workers.admin.number_views import NumberViews
from workers.failures.failure import FailureNotFound, QuarantinedCallback
from workers.failures.failure_list import QUARANTINE
from workers.failures.store import FailureStore

_LABELS = ListLabels(
    path="/quarantine", title="Quarantine", singular="quarantined callback", plural="quarantined callbacks"
)


def routes(
    client: redis.Redis, _: Settings, number_views: NumberViews, *, bulk_actions: BulkActionRunner
) -> list[Route]:
    """Return the page's routes."""
    pages = FailurePages(client, bulk_actions)
    store = FailureStore(client)

    def record_view(request: Request) -> None:
        number_views.record(who=operator(request), by="page", where="quarantine", count=1)

    def list_failures(request: Request) -> Response:
        return pages.list_page(request, QUARANTINE, _LABELS)

    def confirm(request: Request) -> Response:
        return pages.confirm_page(request, QUARANTINE, _LABELS, paused_by="")

    def run(request: Request) -> Response:
        return pages.run_action(request, QUARANTINE)

    def show(request: Request) -> Response:
        try:
            found = _read(store, request.path_params["failure_id"])
        except FailureNotFound as exc:
            return render_not_found(request, exc, _LABELS)
        is_whole = request.method == "POST" and field(request, "numbers") == "full"
        if is_whole and not may_act(request):
            return render_notice(request, 403, "The body is not shown", NO_RIGHT)
        if is_whole:
            record_view(request)
        # Nothing is known of what it holds, so no number in it can be masked.
        body = found.body.decode(errors="replace") if is_whole else None
        return render_page(
            request,
            "quarantined_callback.html",
            labels=_LABELS,
            failure=found,
            body=body,
            most=SHOWN_CHARACTERS,
            size=len(found.body),
        )

    def body(request: Request) -> Response:
        if not may_act(request):
            return render_notice(request, 403, "The body is not shown", NO_RIGHT)
        try:
            found = _read(store, request.path_params["failure_id"])
        except FailureNotFound as exc:
            return render_not_found(request, exc, _LABELS)
        record_view(request)
        return download(f"quarantine-{found.id}", found.body)

    base = _LABELS.path
    return [
        Route(base, list_failures),
        Route(f"{base}/confirm", confirm, methods=["POST"]),
        Route(f"{base}/actions", run, methods=["POST"]),
        Route(f"{base}/{{failure_id}}", show, methods=["GET", "POST"]),
        Route(f"{base}/{{failure_id}}/body", body),
    ]


def _read(store: FailureStore, failure_id: str) -> QuarantinedCallback:
    if not is_failure_id(failure_id):
        raise FailureNotFound
    return store.read_quarantined(failure_id)
