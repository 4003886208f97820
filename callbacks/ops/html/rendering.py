"""HTML: templates, made from the values that an endpoint gives, with everything escaped that a stranger wrote.

A name that a template uses and nobody gave is an error, never an empty place. What may hold invisible or direction-
turning characters goes through the filter `harmless`; see `callbacks.ops.html.escaping`.
"""

import functools
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from callbacks.ops.access import sessions
from callbacks.ops.html import assets
from callbacks.ops.html.escaping import escape_visibly
from callbacks.ops.status import quantities

NAVIGATION: Final = (
    ("/", "Now"),
    ("/messages", "Messages"),
    ("/dead-letters", "Dead letters"),
    ("/quarantine", "Quarantine"),
    ("/live", "Live"),
)


def render_page(
    request: Request, template: str, /, *, status_code: int = 200, headers: dict[str, str] | None = None, **context: Any
) -> Response:
    """Give the page that `template`, a file of callbacks/ops/html/templates, makes of `context`."""
    common = {"request": request, "operator": sessions.operator(request), "signed_in": sessions.signed_in(request)}
    return HTMLResponse(templates().get_template(template).render(**common, **context), status_code, headers)


def render_notice(request: Request, status_code: int, title: str, text: str) -> Response:
    """Give a page that says one thing: why there is no other."""
    return render_page(request, "notice.html", status_code=status_code, title=title, text=text)


def render_fragment(template: str, /, **context: Any) -> str:
    """Give a part of a page that is the same for everybody who looks at it."""
    return templates().get_template(template).render(**context)


@functools.cache
def templates() -> Environment:
    """Give the templates, read and compiled once."""
    found = Environment(
        loader=PackageLoader("callbacks.ops.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "ago": quantities.format_age,
        "amount": quantities.format_number,
        "duration": quantities.format_duration,
        "visible": escape_visibly,
        "rate": quantities.format_rate,
        "size": quantities.format_size,
    }
    found.globals |= {
        "counted": quantities.format_count,
        "asset": assets.asset_url,
        "csrf_field": csrf_field,
        "navigation": NAVIGATION,
    }
    return found


def csrf_field(request: Request) -> Markup:
    """Give the hidden field that every form needs; `callbacks.ops.access_middleware` refuses a POST without it."""
    return Markup('<input type="hidden" name="csrf" value="{}">').format(sessions.csrf_token(request))
