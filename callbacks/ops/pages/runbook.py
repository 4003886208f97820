"""The page *Runbook*: what to do about each condition, of the release that runs; *Now* links to its sections."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from callbacks.ops.html.renderer import render_page
from shared.setting_values import RUNBOOK
from shared.settings import Settings


def routes() -> list[Route]:
    """Return the page's route."""

    def show(request: Request) -> Response:
        return render_page(request, "runbook.html")

    return [Route("/runbook", show)]


def runbook_base(settings: Settings) -> str:
    """Return where the pages link to: the runbook of CALLBACKS_RUNBOOK_URL, or the page."""
    return "/runbook" if settings.runbook_url == RUNBOOK else settings.runbook_url
