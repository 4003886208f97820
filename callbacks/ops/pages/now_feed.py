"""The content of the page *Now*: read once for all who watch it, and only while somebody does."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import redis

from callbacks.ops.html import charts
from callbacks.ops.html.renderer import render_fragment
from callbacks.ops.pages.event_streams import format_event
from callbacks.ops.status import alerts, service_status
from callbacks.ops.status.audit_cache import AuditCache
from callbacks.ops.status.service_status import AUDIT_EVERY_SECONDS, ServiceStatus
from callbacks.ops.status.single_flight import SingleFlight
from shared.settings import Settings

# Processes push their metrics every two seconds (shared.metrics_push).
REFRESH_SECONDS: Final = 2.0


class NowFeed:
    """Renders the changing part of the page as HTML."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        audit_cache = AuditCache(client, every_seconds=AUDIT_EVERY_SECONDS)

        def render() -> str:
            return _render(service_status.read_status(client, settings, audit_cache))

        self._calls = SingleFlight(render, seconds=REFRESH_SECONDS / 2)

    async def html(self) -> str:
        """Return the current content, at most one second old. Raises redis.RedisError."""
        return await self._calls.get()

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield the content every two seconds as server-sent events; while Redis is unavailable, a notice instead."""
        while True:
            try:
                html = await self.html()
            except redis.RedisError as exc:
                html = render_fragment("redis_unavailable_content.html", error=type(exc).__name__)
            yield format_event("html", html)
            await asyncio.sleep(REFRESH_SECONDS)


def _render(found: ServiceStatus) -> str:
    return render_fragment(
        "now_content.html",
        now=found,
        alerts=alerts.find_alerts(found),
        chart=charts.draw_recent_rate(found.recent_rate),
    )
