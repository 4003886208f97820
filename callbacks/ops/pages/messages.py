"""The page *Messages*: a list of them, and what became of one, found by one of its ids or by the number it went to.

The past comes from the tables of the handler `sql`; what stands in Redis now, dead letters and the quarantine, is found
without them too. An id may stand in the address of a page; a number comes by a form, and stays out of addresses.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec
import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from callbacks.ops.html.forms import field
from callbacks.ops.html.renderer import render_page
from callbacks.ops.pages import message_history
from callbacks.ops.pages.message_history import MAX_EVENTS, MessageHistory
from callbacks.ops.pages.message_list import render_list
from shared import phone_numbers
from shared.settings import Settings
from workers.admin import event_status
from workers.admin.event_status import EventDelivery, HandlerEventStatuses
from workers.failures import search as failure_search
from workers.failures.search import SearchCursor

if TYPE_CHECKING:
    from workers.handlers.sql.history import Timeline

_MAX_CHARACTERS: Final = 300
_MAX_RAW_CHARACTERS: Final = 20_000
_NUMBER: Final = re.compile(r"[0-9]{7,15}")
# Seven digits, with anything between them but letters, may be somebody's number: an address is no place for it.
_MAY_BE_NUMBER: Final = re.compile(r"[\W_]*(?:\d[\W_]*){7,}")


def routes(client: redis.Redis, settings: Settings) -> list[Route]:
    """Return the page's routes."""

    def show(request: Request) -> Response:
        wanted = request.query_params.get("id", "").strip()
        if not wanted:
            return render_list(request, settings)
        return _render_results(
            client, settings, request, wanted, number="", cursor=request.query_params.get("cursor", "")
        )

    def search(request: Request) -> Response:
        wanted = field(request, "wanted")
        if _MAY_BE_NUMBER.fullmatch(wanted[: _MAX_CHARACTERS + 1]):
            number = wanted if _NUMBER.fullmatch(phone_numbers.comparable(wanted)) else ""
            return _render_results(client, settings, request, wanted, number=number, cursor=field(request, "cursor"))
        return RedirectResponse(f"/messages?id={quote(wanted, safe='')}" if wanted else "/messages", 303)

    return [Route("/messages", show, methods=["GET"]), Route("/messages", search, methods=["POST"])]


def _render_results(
    client: redis.Redis, settings: Settings, request: Request, wanted: str, *, number: str, cursor: str
) -> Response:
    if len(wanted) > _MAX_CHARACTERS:
        raise HTTPException(400)
    try:
        start = SearchCursor.parse(cursor) if cursor else None
    except ValueError:
        raise HTTPException(400) from None
    found = message_history.find_messages(settings, wanted, number=number)
    if len(found.timelines) == 1 and not found.messages:
        timeline = found.timelines[0]
        return render_page(request, "message.html", wanted=wanted, raw=_raw, **_timeline_context(client, timeline))
    event = _event_deliveries(client, wanted) if found.is_empty and start is None else []
    search_page = failure_search.search(client, wanted, start=start) if found.is_empty or start else None
    return render_page(
        request,
        "messages.html",
        wanted=wanted,
        is_number=request.method == "POST",
        found=found,
        search_page=search_page,
        event=event,
        uses_sql="sql" in settings.handlers,
        rows=_rows(found),
    )


def _rows(found: MessageHistory) -> list[Any]:
    """Return the messages of the list, each once."""
    messages = [timeline.message for timeline in found.timelines]
    named = {message.message_id for message in messages}
    return [*messages, *(message for message in found.messages if message.message_id not in named)]


def _timeline_context(client: redis.Redis, timeline: "Timeline") -> dict[str, Any]:
    events: list[Any] = [*timeline.statuses, *timeline.replies][:MAX_EVENTS]
    ids = {event.event_id: int(event.received_at.timestamp() * 1000) for event in events}
    deliveries: dict[str, list[EventDelivery]] = {event_id: [] for event_id in ids}
    is_known = True
    try:
        for at in event_status.find_statuses(client, ids):
            for event_id in at.statuses:
                deliveries[event_id].append(_delivery(at, event_id))
    except redis.RedisError:  # the statuses and replies are in the database
        is_known = False
    return {
        "message": timeline.message,
        "statuses": timeline.statuses,
        "replies": timeline.replies,
        "most": MAX_EVENTS if timeline.is_cut else None,
        "deliveries": deliveries,
        "are_deliveries_known": is_known,
    }


def _event_deliveries(client: redis.Redis, event_id: str) -> list[EventDelivery]:
    """Return where an event is at each handler that has or had it: `sql` need not be in use for that."""
    return [_delivery(at, event_id) for at in event_status.find_event(client, event_id)]


def _delivery(at: HandlerEventStatuses, event_id: str) -> EventDelivery:
    if at.handler == "sql" and at.statuses[event_id] in ("untried", "unlogged"):
        return EventDelivery(handler=at.handler, event_id=event_id, status="delivered")  # as this very table shows
    return at.delivery(event_id)


def _raw(raw: msgspec.Raw) -> Mapping[str, Any]:
    """Return a record as received, indented, and how many characters a page shows."""
    text = msgspec.json.format(bytes(raw), indent=2).decode(errors="replace")
    return {"text": text, "most": _MAX_RAW_CHARACTERS}
