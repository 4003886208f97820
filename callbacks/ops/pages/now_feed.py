"""The content of the page *Now*: read once for all who watch it, and only while somebody does.

With CALLBACKS_CELLS a table of all cells is first, and all else is of this service's own Redis.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

import redis
from msgspec import Struct

from callbacks.ops.html import charts
from callbacks.ops.html.renderer import render_fragment
from callbacks.ops.pages.event_streams import format_event
from callbacks.ops.status import alerts, cell_rows, service_status
from callbacks.ops.status.audit_cache import AuditCache
from callbacks.ops.status.service_status import AUDIT_EVERY_SECONDS, ServiceStatus
from callbacks.ops.status.single_flight import SingleFlight
from callbacks.ops.status.summary import REDIS_UNAVAILABLE, REDIS_UNREADABLE, StatusSummary, summarize, summarize_cells
from shared import connections
from shared.cells_reader import CellReading
from shared.settings import Settings

# Processes push their metrics every two seconds (shared.metrics_push).
REFRESH_SECONDS: Final = 2.0


class NowContent(Struct, frozen=True):
    """The changing part of the page, and the summary that its heading has."""

    html: str
    summary: StatusSummary


class NowFeed:
    """Renders the changing part of the page as HTML."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        audit_cache = AuditCache(client, every_seconds=AUDIT_EVERY_SECONDS)
        cells = cell_rows.open_reader(settings) if settings.cells else None

        def read() -> ServiceStatus:
            return service_status.read_status(client, settings, audit_cache)

        def render() -> NowContent:
            return _render(read()) if cells is None else _render_cells(cells.read(), settings, read)

        self._calls = SingleFlight(render, seconds=REFRESH_SECONDS / 2)

    async def content(self) -> NowContent:
        """Return the current content, at most one second old.

        Raises redis.RedisError, but not if there are cells to show.
        """
        return await self._calls.get()

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield the content every two seconds as server-sent events; while Redis is unavailable, a notice instead."""
        while True:
            try:
                html = (await self.content()).html
            except redis.RedisError as exc:
                html = render_fragment("redis_unavailable_content.html", error=type(exc).__name__)
            yield format_event("html", html)
            await asyncio.sleep(REFRESH_SECONDS)


def _render(found: ServiceStatus) -> NowContent:
    current = alerts.find_alerts(found)
    summary = summarize(current, found.balance)
    html = render_fragment(
        "now_content.html",
        now=found,
        alerts=current,
        summary=summary,
        chart=charts.draw_recent_rate(found.recent_rate),
    )
    return NowContent(html, summary)


def _render_cells(
    readings: Sequence[CellReading[ServiceStatus]], settings: Settings, read: Callable[[], ServiceStatus]
) -> NowContent:
    own = next((cell.name for cell in settings.cells if cell.is_at(settings.redis_url)), None)
    own_reading = next((one for one in readings if one.cell == own), None)
    own_part = _render_own(read) if own_reading is None else _render_reading(own_reading)
    rows = [cell_rows.to_row(one) for one in readings]
    summary = summarize_cells(rows, own_part.summary)
    redis_url = connections.redact_url(settings.redis_url)
    table = render_fragment("cells.html", rows=rows, own=own, redis_url=redis_url, summary=summary)
    return NowContent(table + own_part.html, summary)


def _render_reading(own: CellReading[ServiceStatus]) -> NowContent:
    if own.value is not None:
        return _render(own.value)
    return NowContent(render_fragment("redis_unreadable_content.html", problem=own.problem), REDIS_UNREADABLE)


def _render_own(read: Callable[[], ServiceStatus]) -> NowContent:
    """Return the part of a Redis that is no cell."""
    try:
        return _render(read())
    except redis.RedisError as exc:
        html = render_fragment("redis_unavailable_content.html", error=type(exc).__name__)
        return NowContent(html, REDIS_UNAVAILABLE)
