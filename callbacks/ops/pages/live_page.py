"""The page *Live*: events as they pass, the newest on top."""

from collections.abc import AsyncGenerator, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from callbacks.ops.html import forms
from callbacks.ops.html.rendering import fragment, page
from callbacks.ops.pages import live_filter
from callbacks.ops.pages.live_filter import KINDS, Chosen
from callbacks.ops.pages.live_hub import REMEMBERED, Hub
from callbacks.ops.pages.streams import Streams, event
from shared.events import STATUSES, Event
from workers.handlers.mask import mask_number


def routes(hub: Hub, streams: Streams) -> Sequence[Route]:
    """Give the page, its answer to a filter, and the events with which a script keeps it up to date."""

    async def shown(request: Request) -> Response:
        chosen = live_filter.read(forms.form(request)) if request.method == "POST" else Chosen()
        newest, state = hub.look()
        wanted = chosen.filter()
        return page(
            request,
            "live.html",
            chosen=chosen,
            kinds=KINDS,
            statuses=sorted(STATUSES),
            most=REMEMBERED,
            state=state,
            rows=[_row(one, chosen) for one in newest if wanted.wants(one)],
        )

    async def followed(request: Request) -> ASGIApp:
        return streams.answer(request, _told(hub, live_filter.read(forms.form(request))))

    return [
        Route("/live", shown, methods=["GET", "POST"]),
        Route("/live/events", followed, methods=["POST"]),
    ]


async def _told(hub: Hub, chosen: Chosen) -> AsyncGenerator[str, None]:
    name, wanted = "all", chosen.filter()
    async for fresh, state in hub.follow():
        yield event("state", state)
        rows = [_row(one, chosen) for one in fresh if wanted.wants(one)]
        if rows or name == "all":
            yield event(name, fragment("live_rows.html", rows=rows))
        name = "rows"


def _row(one: Event, chosen: Chosen) -> dict[str, object]:
    def number(value: str | None) -> str | None:
        return value if value is None or chosen.whole_numbers else mask_number(value)

    return {"event": one, "sender": number(one.sender), "recipient": number(one.recipient)}
