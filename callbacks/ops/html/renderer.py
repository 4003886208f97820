"""Renders templates with the values of an endpoint; all values are escaped.

A name that a template uses and that was not passed is an error. Text that may have invisible or direction-changing
characters goes through the filter `visible`; see `callbacks.ops.html.visible_text`.
"""

import functools
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from callbacks.ops.access import sessions
from callbacks.ops.html import assets
from callbacks.ops.html.visible_text import escape_visibly
from callbacks.ops.status import quantities
from callbacks.ops.status.conditions import CONDITIONS
from callbacks.ops.status.summary import REDIS_UNAVAILABLE, REDIS_UNREADABLE
from shared.counted import counted

NAVIGATION: Final = (
    ("/", "Now"),
    ("/messages", "Messages"),
    ("/jobs", "Jobs"),
    ("/retries", "Retries"),
    ("/dead-letters", "Dead letters"),
    ("/quarantine", "Quarantine"),
    ("/live", "Live"),
    ("/actions", "Actions"),
)


NO_RIGHT: Final = "You may read these pages, and neither act nor see whole numbers. Ask somebody who has the right."


def render_page(
    request: Request, template: str, /, *, status_code: int = 200, headers: dict[str, str] | None = None, **context: Any
) -> Response:
    """Return the page that `template`, a file in callbacks/ops/html/templates, makes from `context`."""
    common = {
        "request": request,
        "operator": sessions.operator(request),
        "signed_in": sessions.signed_in(request),
        "may_act": sessions.may_act(request),
        "is_from_proxy": sessions.is_from_proxy(request),
    }
    return HTMLResponse(templates().get_template(template).render(**common, **context), status_code, headers)


def render_notice(
    request: Request, status_code: int, title: str, text: str, *, back: tuple[str, str] = ("/", "the start page")
) -> Response:
    """Return a page with one message, usually an error; `back` is the path that it links, and its name."""
    return render_page(request, "notice.html", status_code=status_code, title=title, text=text, back=back)


def render_fragment(template: str, /, **context: Any) -> str:
    """Return a part of a page that is the same for all users."""
    return templates().get_template(template).render(**context)


@functools.cache
def templates() -> Environment:
    """Return the templates, loaded and compiled once."""
    found = Environment(
        loader=PackageLoader("callbacks.ops.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "age": _format_age,
        "ago": quantities.format_age,
        "amount": quantities.format_number,
        "duration": quantities.format_duration,
        "moment": _moment,
        "visible": escape_visibly,
        "rate": quantities.format_rate,
        "size": quantities.format_size,
    }
    found.globals |= {
        "counted": counted,
        "asset": assets.asset_url,
        "csrf_field": csrf_field,
        "navigation": NAVIGATION,
        "conditions": CONDITIONS,
        "redis_unavailable": REDIS_UNAVAILABLE,
        "redis_unreadable": REDIS_UNREADABLE,
    }
    return found


def _moment(at: datetime | str) -> datetime:
    """Return a time that is a text of RFC 3339 in some values as what it is in others."""
    return datetime.fromisoformat(at) if isinstance(at, str) else at


def _format_age(at: datetime | str) -> str:
    seconds = (datetime.now(UTC) - _moment(at)).total_seconds()
    return quantities.format_age(seconds) if seconds >= 0 else f"in {quantities.format_duration(-seconds)}"


def csrf_field(request: Request) -> Markup:
    """Return the hidden CSRF field of a form; `callbacks.ops.access_middleware` refuses a POST without it."""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(sessions.csrf_token(request))
