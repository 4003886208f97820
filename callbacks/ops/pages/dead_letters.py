"""The page *Dead letters*: the handlers, what each gave up on, and why. A replay goes to the own handler alone."""

from typing import Final
from urllib.parse import quote

import msgspec
import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from callbacks.ops.figures import reading
from callbacks.ops.html.rendering import page
from callbacks.ops.pages.hands import Hands
from callbacks.ops.pages.shelf_pages import SHOWN_CHARACTERS, About, ShelfPages, download, is_id, not_there
from shared import events, queues
from shared.settings import Settings
from workers.failures import failure, store
from workers.failures.failure import NotThere
from workers.failures.failure_list import Shelf, dead_letters_of, handlers
from workers.runtime import pause

BASE: Final = "/dead-letters"


def routes(client: redis.Redis, settings: Settings, *, hands: Hands) -> list[Route]:
    """Give the page's routes."""
    pages = ShelfPages(client, hands)

    def overview(request: Request) -> Response:
        found = reading.read(client, settings.durability)
        by_name = {queue.name: queue for queue in found.queues}
        rows = [(name, number, by_name[queues.delivery_queue(name)]) for name, number in found.dead.items()]
        return page(request, "dead_letters.html", rows=rows)

    def listed(request: Request) -> Response:
        shelf, about = _named(client, request)
        return pages.listed(request, shelf, about)

    def confirm(request: Request) -> Response:
        shelf, about = _named(client, request)
        pausing = pause.read_state(client, str(shelf.handler))
        return pages.confirm(request, shelf, about, paused_by="" if pausing is None else pausing.by)

    def act(request: Request) -> Response:
        return pages.act(request, _named(client, request)[0])

    def entry(request: Request) -> Response:
        shelf, about = _named(client, request)
        entry_id = request.path_params["entry_id"]
        try:
            row, traceback, event = _read(client, shelf, entry_id)
        except NotThere as exc:
            return not_there(request, exc, about)
        return page(
            request, "dead_letter.html", about=about, entry=row, traceback=traceback, event=event, most=SHOWN_CHARACTERS
        )

    def event(request: Request) -> Response:
        shelf, about = _named(client, request)
        entry_id = request.path_params["entry_id"]
        try:
            *_, text = _read(client, shelf, entry_id)
        except NotThere as exc:
            return not_there(request, exc, about)
        return download(f"{shelf.handler}-{entry_id}", text.encode(errors="replace"))

    one = f"{BASE}/{{handler}}"
    return [
        Route(BASE, overview),
        Route(one, listed),
        Route(f"{one}/confirm", confirm, methods=["POST"]),
        Route(f"{one}/act", act, methods=["POST"]),
        Route(f"{one}/{{entry_id}}", entry),
        Route(f"{one}/{{entry_id}}/event", event),
    ]


def _named(client: redis.Redis, request: Request) -> tuple[Shelf, About]:
    """Give the shelf that the address names."""
    handler = request.path_params["handler"]
    if handler not in handlers(client):
        raise HTTPException(404)
    about = About(
        base=f"{BASE}/{quote(handler, safe='')}",
        title=f"Dead letters of {handler}",
        one=f"dead letter of {handler}",
        several=f"dead letters of {handler}",
    )
    return dead_letters_of(handler), about


def _read(client: redis.Redis, shelf: Shelf, entry_id: str) -> tuple[failure.DeadLetterRow, str, str]:
    """Give a dead letter's row, its traceback, and its event as JSON, also one that a newer release wrote."""
    if not is_id(entry_id):
        raise NotThere
    ((_, values),) = store.read(client, shelf, [entry_id], failure.DEAD_LETTER)
    if values[0] is None:
        raise NotThere
    row = failure.dead_letter_row(str(shelf.handler), entry_id, values[: len(failure.DEAD_LETTER_ROW)])
    *_, traceback, event = values
    try:
        (read,) = events.decode(b"[%s]" % event)
    except msgspec.DecodeError:
        return row, traceback.decode(errors="replace"), event.decode(errors="replace")
    text = msgspec.json.format(read.to_json(), indent=2)
    return row, traceback.decode(errors="replace"), text
