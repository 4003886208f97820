"""The page *Live*: new events as they arrive, the newest first."""

from collections.abc import AsyncGenerator, Sequence

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from callbacks.ops.access.sessions import may_act, operator
from callbacks.ops.html import forms
from callbacks.ops.html.renderer import NO_RIGHT, render_fragment, render_notice, render_page
from callbacks.ops.pages import live_filter_form
from callbacks.ops.pages.event_streams import EventStreams, format_event
from callbacks.ops.pages.live_feed import MAX_EVENTS, LiveFeed
from callbacks.ops.pages.live_filter_form import KINDS, LiveFilterForm
from shared.events import Event
from shared.schema import STATUSES
from workers.admin.number_views import NumberViews
from workers.handlers.mask import mask_event


def routes(live_feed: LiveFeed, streams: EventStreams, number_views: NumberViews) -> Sequence[Route]:
    """Return the routes of the page, also for a filter, and of the event stream that keeps it up to date."""

    async def show(request: Request) -> Response:
        form = live_filter_form.parse_form(forms.fields(request)) if request.method == "POST" else LiveFilterForm()
        newest, state = live_feed.newest()
        wanted = form.filter()
        rows = [_shown(one, form) for one in newest if wanted.matches(one)]
        if form.whole_numbers:
            if not may_act(request):
                return render_notice(request, 403, "Whole numbers are not shown", NO_RIGHT)
            await _record_view(request, len(rows))
        return render_page(
            request,
            "live.html",
            form=form,
            kinds=KINDS,
            statuses=sorted(STATUSES),
            most=MAX_EVENTS,
            state=state,
            rows=rows,
        )

    async def stream(request: Request) -> ASGIApp:
        form = live_filter_form.parse_form(forms.fields(request))
        if form.whole_numbers:
            if not may_act(request):
                return PlainTextResponse(f"{NO_RIGHT}\n", 403)
            await _record_view(request, 1)
        return streams.respond(request, _events(live_feed, form))

    async def _record_view(request: Request, number: int) -> None:
        await run_in_threadpool(number_views.record, who=operator(request), by="page", where="live", count=number)

    return [
        Route("/live", show, methods=["GET", "POST"]),
        Route("/live/events", stream, methods=["POST"]),
    ]


async def _events(live_feed: LiveFeed, form: LiveFilterForm) -> AsyncGenerator[str, None]:
    name, wanted = "all", form.filter()
    async for fresh, state in live_feed.updates():
        yield format_event("outdated" if state.is_outdated else "state", state.text)
        rows = [_shown(one, form) for one in fresh if wanted.matches(one)]
        if rows or name == "all":
            yield format_event(name, render_fragment("live_rows.html", rows=rows))
        name = "rows"


def _shown(one: Event, form: LiveFilterForm) -> Event:
    return one if form.whole_numbers else mask_event(one)
