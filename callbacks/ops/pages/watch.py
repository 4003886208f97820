"""Looks at the service for everybody who watches the page *Now*: once for all of them, and only while there are any."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import redis

from callbacks.ops.figures import attention, now
from callbacks.ops.figures.auditing import Auditing
from callbacks.ops.figures.now import AUDIT_EVERY_SECONDS, Now
from callbacks.ops.figures.together import Together
from callbacks.ops.html import charts
from callbacks.ops.html.rendering import fragment
from callbacks.ops.pages.streams import event
from shared.settings import Settings

# Processes tell their figures every two seconds (shared.metrics_push).
EVERY_SECONDS: Final = 2.0


class Watch:
    """Gives the part of the page that changes, as HTML."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        auditing = Auditing(client, every_seconds=AUDIT_EVERY_SECONDS)

        def look() -> str:
            return _rendered(now.look(client, settings, auditing))

        self._looks = Together(look, seconds=EVERY_SECONDS / 2)

    async def html(self) -> str:
        """Give it as it is now, or was a moment ago. Raises redis.RedisError."""
        return await self._looks.get()

    async def events(self) -> AsyncGenerator[str, None]:
        """Give it again and again, as server-sent events, through Redis's absence too."""
        while True:
            try:
                html = await self.html()
            except redis.RedisError as exc:
                html = fragment("redis_away_part.html", error=type(exc).__name__)
            yield event("html", html)
            await asyncio.sleep(EVERY_SECONDS)


def _rendered(found: Now) -> str:
    return fragment(
        "now_part.html", now=found, matters=attention.matters(found), chart=charts.of_last_hour(found.last_hour)
    )
