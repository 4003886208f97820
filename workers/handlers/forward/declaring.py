"""A target as a handler: its declaration, by what the environment says of it."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from workers import Event, handler
from workers.handlers.forward.sender import Outcome, Sender
from workers.handlers.forward.targets import Target

log = logging.getLogger("callbacks.forward")

# The usual back-off is at an hour from the seventh on, so these outlive an outage of half a day and more, in which
# most attempts are saved by pauses anyway.
ATTEMPTS: Final = 24
# Beyond the target's own time: for the answer's body, and for closing. So that limit is never met.
_MARGIN_SECONDS: Final = 10.0


def made(target: Target) -> Callable[[Event], Awaitable[Outcome]]:
    """Make the handler of one target."""
    sender = Sender(target)
    if not target.secrets:
        log.warning("action=forward_unsigned handler=%s target=%s", target.name, target.shown)

    @handler(
        *target.kinds,
        name=target.name,
        statuses=target.statuses,
        channels=target.channels,
        sources=target.sources,
        final=target.final,
        attempts=ATTEMPTS,
        timeout_seconds=target.timeout_seconds + _MARGIN_SECONDS,
        concurrency=target.concurrency,
        lifespan=sender.opened,
    )
    async def forward(event: Event) -> Outcome:
        return await sender.send(event)

    # Where it is found, for whoever looks for its place.
    forward.__module__, forward.__qualname__ = f"{__package__}.handler", target.name
    return forward
