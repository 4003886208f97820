"""The page *Now*: how the service is, at a glance."""

from collections.abc import Sequence

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from callbacks.ops.html.renderer import render_page
from callbacks.ops.pages.event_streams import EventStreams
from callbacks.ops.pages.now_feed import NowFeed


def routes(feed: NowFeed, streams: EventStreams) -> Sequence[Route]:
    """Return the routes of the page and of the event stream that keeps it up to date."""

    async def show(request: Request) -> Response:
        content = await feed.content()
        part = Markup(content.html)  # noqa: S704 # a template made it
        status_code = 503 if content.is_outdated else 200
        return render_page(request, "now.html", status_code=status_code, part=part, summary=content.summary)

    async def stream(request: Request) -> ASGIApp:
        return streams.respond(request, feed.events())

    return [Route("/", show), Route("/now/events", stream)]
