"""The page *Now*: how the service is, at a glance."""

from collections.abc import Sequence

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from callbacks.ops.html.rendering import page
from callbacks.ops.pages.streams import Streams
from callbacks.ops.pages.watch import Watch


def routes(watch: Watch, streams: Streams) -> Sequence[Route]:
    """Give the page, and the events with which a script keeps it up to date."""

    async def shown(request: Request) -> Response:
        html = Markup(await watch.html())  # noqa: S704 # a template made it
        return page(request, "now.html", part=html)

    async def followed(request: Request) -> ASGIApp:
        return streams.answer(request, watch.events())

    return [Route("/", shown), Route("/now/events", followed)]
