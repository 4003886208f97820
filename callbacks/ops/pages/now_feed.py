"""Looks at the service for everybody who watches the page *Now*: once for all of them, and only while there are any."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import redis

from callbacks.ops.html import charts
from callbacks.ops.html.rendering import render_fragment
from callbacks.ops.pages.event_streams import format_event
from callbacks.ops.status import alerts, service_status
from callbacks.ops.status.audit_cache import AuditCache
from callbacks.ops.status.service_status import AUDIT_EVERY_SECONDS, ServiceStatus
from callbacks.ops.status.single_flight import SingleFlight
from shared.settings import Settings

# Processes tell their figures every two seconds (shared.metrics_push).
REFRESH_SECONDS: Final = 2.0


class NowFeed:
    """Gives the part of the page that changes, as HTML."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        audit_cache = AuditCache(client, every_seconds=AUDIT_EVERY_SECONDS)

        def render() -> str:
            return _render(service_status.read_status(client, settings, audit_cache))

        self._calls = SingleFlight(render, seconds=REFRESH_SECONDS / 2)

    async def html(self) -> str:
        """Give it as it is now, or was a moment ago. Raises redis.RedisError."""
        return await self._calls.get()

    async def events(self) -> AsyncGenerator[str, None]:
        """Give it again and again, as server-sent events, through Redis's absence too."""
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
