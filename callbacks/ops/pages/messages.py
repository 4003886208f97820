"""The page *Messages*: a list of them, and what became of one, found by one of its ids or by the number it went to.

The past comes from the tables of the handler `sql`; what stands in Redis now, dead letters and the quarantine, is found
without them too. An id may stand in the address of a page; a number comes by a form, and stays out of addresses.
Numbers are masked; a user who may act can ask for whole ones by a form, which is recorded in the action log.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec
import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from callbacks.ops.access.sessions import may_act, operator
from callbacks.ops.html.forms import field
from callbacks.ops.html.renderer import NO_RIGHT, render_notice, render_page
from callbacks.ops.pages import message_history
from callbacks.ops.pages.message_history import MAX_EVENTS, MessageHistory
from callbacks.ops.pages.message_list import render_list
from shared import phone_numbers
from shared.events import to_unix_ms
from shared.settings import Settings
from workers.admin import event_status, message_forms
from workers.admin.event_status import EventDelivery
from workers.admin.message_forms import Numbers
from workers.admin.number_views import NumberViews
from workers.failures import search as failure_search
from workers.failures.search import SearchCursor
from workers.handlers.number_mask import mask_number

if TYPE_CHECKING:
    from workers.handlers.sql.history_results import Timeline

_MAX_CHARACTERS: Final = 300
_MAX_RAW_CHARACTERS: Final = 20_000
_NUMBER: Final = re.compile(r"[0-9]{7,15}")
# Seven digits, with anything between them but letters, may be somebody's number: an address is no place for it.
_MAY_BE_NUMBER: Final = re.compile(r"[\W_]*(?:\d[\W_]*){7,}")


def routes(client: redis.Redis, settings: Settings, number_views: NumberViews) -> list[Route]:
    """Return the page's routes."""

    def show(request: Request) -> Response:
        wanted = request.query_params.get("id", "").strip()
        if not wanted:
            return render_list(request, settings)
        found = message_history.find_messages(settings, _short(wanted))
        return _render_results(client, settings, request, found, wanted, cursor=request.query_params.get("cursor", ""))

    def search(request: Request) -> Response:
        wanted, numbers = field(request, "wanted"), field(request, "numbers")
        # A page with masked numbers names a message instead.
        wanted = wanted or _recipient_of(settings, field(request, "same_recipient_as"))
        may_be_number = _MAY_BE_NUMBER.fullmatch(wanted[: _MAX_CHARACTERS + 1]) is not None
        if not may_be_number and (numbers != "full" or not wanted):
            return RedirectResponse(f"/messages?id={quote(wanted, safe='')}" if wanted else "/messages", 303)
        number = wanted if may_be_number and _NUMBER.fullmatch(phone_numbers.comparable(wanted)) else ""
        found = message_history.find_messages(settings, _short(wanted), number=number)
        if numbers == "full":
            if not may_act(request):
                return render_notice(request, 403, "Whole numbers are not shown", NO_RIGHT)
            seen = len(found.timelines) + len(found.messages)
            number_views.record(who=operator(request), by="page", where="messages", count=seen)
        return _render_results(
            client,
            settings,
            request,
            found,
            wanted,
            cursor=field(request, "cursor"),
            numbers="full" if numbers == "full" else "masked",
        )

    return [Route("/messages", show, methods=["GET"]), Route("/messages", search, methods=["POST"])]


def _render_results(
    client: redis.Redis,
    settings: Settings,
    request: Request,
    found: MessageHistory,
    wanted: str,
    *,
    cursor: str,
    numbers: Numbers = "masked",
) -> Response:
    try:
        start = SearchCursor.parse(cursor) if cursor else None
    except ValueError:
        raise HTTPException(400) from None
    # What a user typed or an id is no secret; the number of a message found by "All messages to this number" is one.
    is_typed = bool(field(request, "wanted")) if request.method == "POST" else True
    shown: dict[str, Any] = {
        "wanted": wanted if is_typed or numbers == "full" else mask_number(wanted),
        "same_recipient_as": "" if is_typed else field(request, "same_recipient_as"),
        "numbers": numbers,
    }
    if len(found.timelines) == 1 and not found.messages:
        timeline = message_forms.mask_timeline(found.timelines[0], numbers)
        return render_page(request, "message.html", raw=_raw, **shown, **_timeline_context(client, timeline))
    event: Sequence[EventDelivery] = ()
    if found.is_empty and start is None:  # `sql` need not be in use for that
        event = event_status.group_by_event(event_status.find_event(client, wanted)).get(wanted, ())
    search_page = failure_search.search(client, wanted, start=start) if found.is_empty or start else None
    return render_page(
        request,
        "messages.html",
        **shown,
        is_number=request.method == "POST",
        found=found,
        search_page=search_page,
        event=event,
        uses_sql="sql" in settings.handlers,
        rows=[message_forms.mask_message(message, numbers) for message in _rows(found)],
    )


def _short(wanted: str) -> str:
    if len(wanted) > _MAX_CHARACTERS:
        raise HTTPException(400)
    return wanted


def _recipient_of(settings: Settings, message_id: str) -> str:
    """Return the number to which a message was sent, "" if it is not known."""
    found = message_history.find_messages(settings, _short(message_id)) if message_id else MessageHistory()
    return next((one.message.recipient for one in found.timelines if one.message.recipient), "")


def _rows(found: MessageHistory) -> list[Any]:
    """Return the messages of the list, each once."""
    messages = [timeline.message for timeline in found.timelines]
    named = {message.message_id for message in messages}
    return [*messages, *(message for message in found.messages if message.message_id not in named)]


def _timeline_context(client: redis.Redis, timeline: "Timeline") -> dict[str, Any]:
    events: list[Any] = [*timeline.statuses, *timeline.replies][:MAX_EVENTS]
    ids = {event.event_id: to_unix_ms(event.received_at) for event in events}
    deliveries: dict[str, list[EventDelivery]] = {}
    is_known = True
    try:
        deliveries = event_status.group_by_event(event_status.find_statuses(client, ids), kept_by="sql")
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


def _raw(raw: msgspec.Raw) -> Mapping[str, Any]:
    """Return a record as received, indented, and how many characters a page shows."""
    text = msgspec.json.format(bytes(raw), indent=2).decode(errors="replace")
    return {"text": text, "most": _MAX_RAW_CHARACTERS}
