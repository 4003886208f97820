"""The page *Dead letters*: the events that each handler failed to process, and why. A replay goes to that handler."""

import redis
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from callbacks.ops.html.renderer import render_page
from callbacks.ops.pages import dead_letter, dead_letter_export
from callbacks.ops.pages.bulk_actions import BulkActionRunner
from callbacks.ops.pages.dead_letter_labels import BASE, named_list
from callbacks.ops.pages.failure_pages import ROWS, FailurePages
from callbacks.ops.status import snapshot_reader
from shared import queues
from shared.settings import Settings
from workers.admin import error_groups
from workers.admin.number_views import NumberViews
from workers.runtime import pause


def routes(
    client: redis.Redis, settings: Settings, number_views: NumberViews, *, bulk_actions: BulkActionRunner
) -> list[Route]:
    """Return the page's routes."""
    pages = FailurePages(client, bulk_actions)

    def overview(request: Request) -> Response:
        found = snapshot_reader.read_snapshot(client, settings.durability)
        by_name = {queue.name: queue for queue in found.queues}
        rows = [(name, number, by_name[queues.delivery_queue(name)]) for name, number in found.dead.items()]
        return render_page(request, "dead_letters.html", rows=rows)

    def list_failures(request: Request) -> Response:
        failure_list, labels = named_list(client, request)
        return pages.list_page(request, failure_list, labels)

    def list_errors(request: Request) -> Response:
        failure_list, labels = named_list(client, request)
        found = error_groups.read_groups(client, str(failure_list.handler))
        return render_page(
            request, "dead_letter_errors.html", labels=labels, failure_list=failure_list, found=found, most=ROWS
        )

    def export(request: Request) -> Response:
        failure_list, _ = named_list(client, request)
        return dead_letter_export.respond(client, request, failure_list)

    def confirm(request: Request) -> Response:
        failure_list, labels = named_list(client, request)
        pausing = pause.read_state(client, str(failure_list.handler))
        return pages.confirm_page(request, failure_list, labels, paused_by="" if pausing is None else pausing.by)

    def run(request: Request) -> Response:
        return pages.run_action(request, named_list(client, request)[0])

    one = f"{BASE}/{{handler}}"
    return [
        Route(BASE, overview),
        Route(one, list_failures),
        Route(f"{one}/confirm", confirm, methods=["POST"]),
        Route(f"{one}/actions", run, methods=["POST"]),
        Route(f"{one}/errors", list_errors),
        Route(f"{one}/export.{{extension}}", export, methods=["GET", "POST"]),
        *dead_letter.routes(client, number_views),
    ]
