"""Listens to the feed of live events once for all viewers of the page *Live*, and keeps the newest.

It listens from the first request until a minute after the last one, so that a page without scripts, which reloads every
few seconds, misses nothing. While nobody watches it does not listen, and the service pays nothing (see `shared.live`).
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Final

import redis
from msgspec import Struct

from shared import live
from shared.background import Background
from shared.counted import counted
from shared.events import Event
from shared.structured_log import get_logger

# As many as a page shows; older events are under Messages.
MAX_EVENTS: Final = 200
_LINGER_SECONDS: Final = 60.0
# Events that arrive within this time are sent together.
_GATHER_SECONDS: Final = 0.25

# A cancelled task ends within milliseconds.
_CANCEL_SECONDS: Final = 0.5

log = get_logger("callbacks.ops")


class FeedState(Struct, frozen=True):
    """The state of the feed in a sentence, and whether nothing new can be shown now."""

    text: str
    is_outdated: bool = False


class LiveFeed:
    """The only listener of a process, for the Redis at `url`."""

    def __init__(self, url: str, background: Background | None = None) -> None:
        self._url = url
        self._background = background or Background()
        self._newest: deque[tuple[int, Event]] = deque(maxlen=MAX_EVENTS)
        self._count = 0
        self._omitted = 0
        self._state = FeedState("Connecting…")
        self._changed = asyncio.Event()
        self._outdated_since = datetime.now(UTC)
        self._viewed_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def newest(self) -> tuple[list[Event], FeedState]:
        """Return the newest events, newest first, and the state of the feed. Start listening if needed."""
        self._viewed_at = asyncio.get_running_loop().time()
        if self._task is None or self._task.done():
            self._task = self._background.start_task("live_events", self._run)
        return [event for _, event in reversed(self._newest)], self._state

    async def updates(self) -> AsyncGenerator[tuple[list[Event], FeedState], None]:
        """Yield the events since the last time, newest first, and the state; the first time all that are kept."""
        seen = 0
        while True:
            _, state = self.newest()
            changed = self._changed
            fresh = [event for number, event in reversed(self._newest) if number > seen]
            seen = self._count
            yield fresh, state
            try:
                async with asyncio.timeout(_LINGER_SECONDS / 2):
                    await changed.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(_GATHER_SECONDS)

    async def close(self) -> None:
        """Stop listening."""
        while self._task is not None and not self._task.done():
            self._task.cancel()
            # While it connects the client may swallow a cancellation, and the task would go on for a minute.
            await asyncio.wait([self._task], timeout=_CANCEL_SECONDS)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        items = live.listen(self._url)
        try:
            async for one in items:
                self._receive(one)
                if clock() - self._viewed_at > _LINGER_SECONDS:
                    break
        except redis.RedisError as exc:
            log.warning("live_feed_refused", error=type(exc).__name__)
            self._set_outdated(f"Redis does not allow this page to listen ({type(exc).__name__})")
            await asyncio.sleep(_LINGER_SECONDS / 6)
        finally:
            await items.aclose()

    def _receive(self, one: live.FeedItem) -> None:
        match one:
            case live.Idle():
                return
            case live.Omitted(number):
                self._omitted += number
                self._set_state(
                    f"Listening; {counted(self._omitted, 'event')} not shown, because too many arrived at once."
                )
            case live.SealedEvents(error):
                self._set_state(f"Listening; new events cannot be shown: {error}.")
            case live.Listening():
                self._set_state("Listening.")
            case live.FeedUnavailable(error):
                self._set_outdated(f"Redis is unavailable ({error})")
            case _:
                self._count += 1
                self._newest.append((self._count, one))
                self._wake()

    def _set_state(self, text: str) -> None:
        self._state = FeedState(text)
        self._wake()

    def _set_outdated(self, problem: str) -> None:
        """Say why nothing new comes, and since when; the time stays the first while that lasts."""
        if not self._state.is_outdated:
            self._outdated_since = datetime.now(UTC)
        since = f"{self._outdated_since:%H:%M:%S} UTC"
        self._state = FeedState(
            f"{problem} since {since}. What is shown is older; events that arrive until it is back are not shown.",
            is_outdated=True,
        )
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
