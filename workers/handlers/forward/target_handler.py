"""Makes the handler of one target."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, overload

from callbacks import Event, handler
from callbacks.log import get_logger
from workers.handlers.forward.sender import HandlerReturn, Sender
from workers.handlers.forward.targets import Target, TargetOptions

log = get_logger("callbacks.forward")

# The backoff reaches one hour at the seventh attempt, so 24 attempts outlast an outage of more than half a day. Pauses
# save most of them anyway.
ATTEMPTS: Final = 24
# Added to the target's time-out, for reading the body and closing, so that a call never reaches the handler's limit.
_MARGIN_SECONDS: Final = 10.0


@overload
def make_handler(options: Target) -> Callable[[Event], Awaitable[HandlerReturn]]: ...
@overload
def make_handler(options: TargetOptions, read: Callable[[], Target]) -> Callable[[Event], Awaitable[HandlerReturn]]: ...
def make_handler(options: Any, read: Callable[[], Target] | None = None) -> Callable[[Event], Awaitable[HandlerReturn]]:
    """Return the handler of one target. `read` returns the whole target; it is called before the first event."""

    @functools.cache
    def sender() -> Sender:
        return Sender(options if read is None else read())

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        target = sender().target
        # Here and not where the settings are read: `check` reads them too, and so may other processes.
        if not target.secrets:
            log.warning("forward_unsigned", handler=target.name, target=target.redacted_url)
        async with sender().open():
            yield

    async def forget(number: str) -> int:
        await sender().forget(number)
        return 1

    @handler(
        *options.kinds,
        name=options.name,
        statuses=options.statuses,
        channels=options.channels,
        sources=options.sources,
        final=options.final,
        opt_outs=options.opt_outs,
        attempts=ATTEMPTS,
        timeout_seconds=options.timeout_seconds + _MARGIN_SECONDS,
        concurrency=options.concurrency,
        lifespan=lifespan,
        forget=forget if options.forget else None,
        settings=sender,
    )
    async def forward(event: Event) -> HandlerReturn:
        return await sender().send(event)

    # So that messages name the place where the handler is found.
    forward.__module__, forward.__qualname__ = f"{__package__}.handler", options.name
    return forward
