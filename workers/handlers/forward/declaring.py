"""A target as a handler: its declaration, by what the environment says of it."""

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, overload

from callbacks import Event, handler
from workers.handlers.forward.sender import Outcome, Sender
from workers.handlers.forward.targets import Subscription, Target

log = logging.getLogger("callbacks.forward")

# The usual back-off is at an hour from the seventh on, so these outlive an outage of half a day and more, in which
# most attempts are saved by pauses anyway.
ATTEMPTS: Final = 24
# Beyond the target's own time: for the answer's body, and for closing. So that limit is never met.
_MARGIN_SECONDS: Final = 10.0


@overload
def made(wanted: Target) -> Callable[[Event], Awaitable[Outcome]]: ...
@overload
def made(wanted: Subscription, read: Callable[[], Target]) -> Callable[[Event], Awaitable[Outcome]]: ...
def made(wanted: Any, read: Callable[[], Target] | None = None) -> Callable[[Event], Awaitable[Outcome]]:
    """Make the handler of one target; `read` gives all of it, and is called before the first event."""

    @functools.cache
    def sender() -> Sender:
        target = wanted if read is None else read()
        if not target.secrets:
            log.warning("action=forward_unsigned handler=%s target=%s", target.name, target.shown)
        return Sender(target)

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        async with sender().opened():
            yield

    @handler(
        *wanted.kinds,
        name=wanted.name,
        statuses=wanted.statuses,
        channels=wanted.channels,
        sources=wanted.sources,
        final=wanted.final,
        attempts=ATTEMPTS,
        timeout_seconds=wanted.timeout_seconds + _MARGIN_SECONDS,
        concurrency=wanted.concurrency,
        lifespan=opened,
        settings=sender,
    )
    async def forward(event: Event) -> Outcome:
        return await sender().send(event)

    # Where it is found, for whoever looks for its place.
    forward.__module__, forward.__qualname__ = f"{__package__}.handler", wanted.name
    return forward
