"""The content of the page *Now*: read once for all who watch it, and only while somebody does.

While Redis is unavailable, or holds a damaged value, it is the last status that could be read, with its time, and what
the web processes say of their spools. With CALLBACKS_CELLS a table of all cells is first, and all else is of this
service's own Redis.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import redis
from markupsafe import Markup
from msgspec import Struct

from callbacks.ops.html import charts
from callbacks.ops.html.renderer import render_fragment
from callbacks.ops.pages.event_streams import format_event
from callbacks.ops.pages.runbook import runbook_base
from callbacks.ops.status import alerts, cell_rows, service_status
from callbacks.ops.status.audit_cache import AuditCache
from callbacks.ops.status.backlog_history import BacklogHistory
from callbacks.ops.status.overdue import OverdueCounter
from callbacks.ops.status.service_status import AUDIT_EVERY_SECONDS, ServiceStatus
from callbacks.ops.status.single_flight import SingleFlight
from callbacks.ops.status.summary import REDIS_UNAVAILABLE, REDIS_UNREADABLE, StatusSummary, summarize, summarize_cells
from callbacks.ops.status.web_spools import read_web_spools
from shared import connections
from shared.cells_reader import CellReading
from shared.rate_limited_log import RateLimitedLog
from shared.settings import Settings
from shared.structured_log import get_logger
from shared.tracebacks import type_name

# Processes push their metrics every two seconds (shared.metrics_push).
REFRESH_SECONDS: Final = 2.0
_LOG_SECONDS: Final = 300.0

log = get_logger("callbacks.ops")


class NowContent(Struct, frozen=True):
    """The changing part of the page, the summary that its heading has, and whether its status is an older one."""

    html: str
    summary: StatusSummary
    is_outdated: bool = False


class LastStatus(Struct, frozen=True):
    """The last status that could be read, as HTML without its heading."""

    at: datetime
    html: Markup


class NowFeed:
    """Renders the changing part of the page as HTML."""

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        overdue: OverdueCounter | None = None,
        backlog: BacklogHistory | None = None,
    ) -> None:
        audit_cache = AuditCache(client, every_seconds=AUDIT_EVERY_SECONDS)
        cells = cell_rows.open_reader(settings) if settings.cells else None

        def read() -> ServiceStatus:
            return service_status.read_status(client, settings, audit_cache)

        def render() -> NowContent:
            return self._render_own(read) if cells is None else self._render_cells(cells.read(), read)

        self._settings = settings
        self._overdue = overdue
        self._backlog = backlog
        self._last: LastStatus | None = None
        self._log = RateLimitedLog(log, interval_seconds=_LOG_SECONDS)
        self._calls = SingleFlight(render, seconds=REFRESH_SECONDS / 2)

    async def content(self) -> NowContent:
        """Return the current content, at most one second old."""
        return await self._calls.get()

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield the content every two seconds as server-sent events."""
        while True:
            yield format_event("html", (await self.content()).html)
            await asyncio.sleep(REFRESH_SECONDS)

    def _render_own(self, read: Callable[[], ServiceStatus]) -> NowContent:
        """Return the content for this service's own Redis."""
        try:
            return self._render_status(read())
        except redis.RedisError as exc:
            heading = render_fragment("redis_unavailable_content.html", error=type(exc).__name__)
            return self._render_last(heading, REDIS_UNAVAILABLE)
        except Exception as exc:  # noqa: BLE001 # a damaged value may raise anything, and must not end the page
            self._log.exception("status_unreadable", exc)
            problem = f"A value in it is damaged ({type_name(exc)}): see action=status_unreadable in the log"
            return self._render_last(
                render_fragment("redis_unreadable_content.html", problem=problem), REDIS_UNREADABLE
            )

    def _render_cells(
        self, readings: Sequence[CellReading[ServiceStatus]], read: Callable[[], ServiceStatus]
    ) -> NowContent:
        own = next((cell.name for cell in self._settings.cells if cell.is_at(self._settings.redis_url)), None)
        own_reading = next((one for one in readings if one.cell == own), None)
        own_part = self._render_own(read) if own_reading is None else self._render_reading(own_reading)
        rows = [cell_rows.to_row(one) for one in readings]
        summary = summarize_cells(rows, own_part.summary)
        redis_url = connections.redact_url(self._settings.redis_url)
        table = render_fragment("cells.html", rows=rows, own=own, redis_url=redis_url, summary=summary)
        return NowContent(table + own_part.html, summary)

    def _render_reading(self, own: CellReading[ServiceStatus]) -> NowContent:
        if own.value is not None:
            return self._render_status(own.value)
        heading = render_fragment("redis_unreadable_content.html", problem=own.problem)
        return self._render_last(heading, REDIS_UNREADABLE)

    def _render_status(self, found: ServiceStatus) -> NowContent:
        found = service_status.with_overdue(found, self._overdue)
        waiting = {} if self._backlog is None else self._backlog.by_bucket()
        heading, content, summary = render_status(found, waiting, runbook=runbook_base(self._settings))
        self._last = LastStatus(found.at, Markup(content))  # noqa: S704 # a template made it
        return NowContent(heading + content, summary)

    def _render_last(self, heading: str, summary: StatusSummary) -> NowContent:
        """Return the heading, what the web processes say, and the last status."""
        spools = render_fragment("web_spools.html", spools=read_web_spools(self._settings.web_metrics))
        last = "" if self._last is None else render_fragment("last_status.html", last=self._last)
        return NowContent(heading + spools + last, summary, is_outdated=True)


def render_status(
    found: ServiceStatus, waiting: Mapping[int, int] | None = None, *, runbook: str = "/runbook"
) -> tuple[str, str, StatusSummary]:
    """Return the heading of a status with its alerts, all else of it, and its summary.

    `waiting` is how many events waited in the last hour (`BacklogHistory.by_bucket`), `runbook` the URL of the runbook.
    """
    current = alerts.find_alerts(found)
    summary = summarize(current, found.balance)
    heading = render_fragment("now_summary.html", alerts=current, summary=summary, runbook=runbook)
    content = render_fragment("now_content.html", now=found, chart=charts.draw_recent_rate(found.recent_rate, waiting))
    return heading, content, summary
