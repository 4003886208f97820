"""The page *Quarantine*: callbacks that could not be read, with what was wrong with each, and its body as received."""

import redis
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from callbacks.ops.html.rendering import page
from callbacks.ops.pages.hands import Hands
from callbacks.ops.pages.shelf_pages import SHOWN_CHARACTERS, About, ShelfPages, download, is_id, not_there
from shared.settings import Settings
from workers.failures.failure import NotThere, QuarantineEntry
from workers.failures.failure_list import QUARANTINE
from workers.failures.store import Shelves

_ABOUT = About(base="/quarantine", title="Quarantine", one="quarantined callback", several="quarantined callbacks")


def routes(client: redis.Redis, _: Settings, *, hands: Hands) -> list[Route]:
    """Give the page's routes."""
    pages = ShelfPages(client, hands)
    shelves = Shelves(client)

    def listed(request: Request) -> Response:
        return pages.listed(request, QUARANTINE, _ABOUT)

    def confirm(request: Request) -> Response:
        return pages.confirm(request, QUARANTINE, _ABOUT, paused_by="")

    def act(request: Request) -> Response:
        return pages.act(request, QUARANTINE)

    def entry(request: Request) -> Response:
        try:
            found = _read(shelves, request.path_params["entry_id"])
        except NotThere as exc:
            return not_there(request, exc, _ABOUT)
        body = found.body.decode(errors="replace")
        return page(
            request,
            "quarantined.html",
            about=_ABOUT,
            entry=found,
            body=body,
            most=SHOWN_CHARACTERS,
            size=len(found.body),
        )

    def body(request: Request) -> Response:
        try:
            found = _read(shelves, request.path_params["entry_id"])
        except NotThere as exc:
            return not_there(request, exc, _ABOUT)
        return download(f"quarantine-{found.id}", found.body)

    base = _ABOUT.base
    return [
        Route(base, listed),
        Route(f"{base}/confirm", confirm, methods=["POST"]),
        Route(f"{base}/act", act, methods=["POST"]),
        Route(f"{base}/{{entry_id}}", entry),
        Route(f"{base}/{{entry_id}}/body", body),
    ]


def _read(shelves: Shelves, entry_id: str) -> QuarantineEntry:
    if not is_id(entry_id):
        raise NotThere
    return shelves.quarantined(entry_id)
