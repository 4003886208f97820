"""The feed of live events: what is new is published as it is handed to the handlers, for whoever looks on just then.

It is for people's eyes: it may miss something, as after a reconnection, and shows at most so much a second. Expand
workers publish in the step that enqueues the events (`workers/expand/live.lua`), and only while somebody listens, so an
unwatched service pays nothing, and a watched one no round trip. A listener that does not read holds up nobody: what
Redis keeps for him grows by MAX_BYTES_PER_SECOND, and at its `client-output-buffer-limit pubsub` it lets him go.

    cb:live:<database>    a message: [version, how many events it does not show, [event, …]], each as `events.encode`
                          gives it
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, Final, TypeAlias

import msgspec
import redis
import redis.asyncio
from msgspec import Struct

from shared import connections, keys
from shared.events import Event
from shared.primary import check_role_async

# More than anybody reads as it passes; and no faster does grow what Redis holds for a listener who has stopped reading.
MAX_EVENTS_PER_SECOND: Final = 100
MAX_BYTES_PER_SECOND: Final = 256 << 10

_VERSION: Final = 1
# Silence is broken by a question after this, and if that has no answer in as long again, Redis is away.
_QUIET_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.5
_ROLE_SECONDS: Final = 5.0

_decoder = msgspec.json.Decoder(tuple[int, int, list[Event]])


class Omitted(Struct, frozen=True):
    """So many events were new and are not in the feed: too many came at once, or one was too large."""

    number: int


class Listening(Struct, frozen=True):
    """From here on events are heard: at the start, and whenever Redis is back."""


class FeedUnavailable(Struct, frozen=True):
    """Redis is away, and what comes meanwhile is missed; said once, until the next Listening."""

    error: str


class Idle(Struct, frozen=True):
    """Nothing has happened for a while: time to look after something else."""


FeedItem: TypeAlias = Event | Omitted | Listening | FeedUnavailable | Idle


def channel(client: "redis.Redis | redis.asyncio.Redis") -> str:
    """Name the feed's channel; it bears the number of the database, which publishing itself knows nothing of."""
    return keys.live_channel(int(client.get_connection_kwargs().get("db") or 0))


async def listen(url: str, *, idle_seconds: float = 1.0) -> AsyncGenerator[FeedItem, None]:
    """Give what is heard from now on, without end; Idle after each `idle_seconds` of nothing.

    Waits for Redis while that is away. Raises redis.RedisError where waiting would not help: wrong password, no right
    to listen. Do not cancel a wait for the next one, that ends it all: Idle is there so that nobody needs to.
    """
    client = connections.connect_async(url)
    is_unavailable = False
    try:
        while True:
            pubsub: Any = client.pubsub()  # which carries no types
            try:
                await pubsub.subscribe(channel(client))
                await _check_role(client)
                async for heard in _receive(pubsub, client, idle_seconds):
                    is_unavailable = False
                    yield heard
            except (redis.AuthenticationError, redis.exceptions.AuthorizationError):
                raise
            except (redis.ConnectionError, redis.TimeoutError) as exc:
                if not is_unavailable:
                    yield FeedUnavailable(type(exc).__name__)
                is_unavailable = True
            finally:
                await pubsub.aclose()
            await asyncio.sleep(_PAUSE_SECONDS)
            yield Idle()
    finally:
        await client.aclose()


def listen_sync(url: str, *, idle_seconds: float = 1.0) -> Generator[FeedItem, None, None]:
    """Give the same where nothing is asynchronous: in a terminal, or a thread."""
    with asyncio.Runner() as runner:
        heard = listen(url, idle_seconds=idle_seconds)

        async def following() -> FeedItem:
            return await anext(heard)

        while True:
            yield runner.run(following())


def parse_message(message: bytes) -> Iterator[Event | Omitted]:
    """Read one message: its events, and how many it does not show. One of another release is not shown as a whole."""
    try:
        version, omitted, events = _decoder.decode(message)
    except (msgspec.MsgspecError, RecursionError):
        version, omitted, events = 0, 1, []
    if version == _VERSION:
        yield from events
    if omitted:
        yield Omitted(omitted)


async def _receive(pubsub: Any, client: "redis.asyncio.Redis", idle_seconds: float) -> AsyncIterator[FeedItem]:
    """Give what is heard over one connection.

    Raises redis.TimeoutError if it is silent though it was asked, and Demoted where the server became a replica: it
    goes on to answer then, and may hear nothing new.
    """
    clock = asyncio.get_running_loop().time
    received_at, is_asked = clock(), False
    check_at = clock() + _ROLE_SECONDS
    while True:
        if clock() >= check_at:
            await _check_role(client)
            check_at = clock() + _ROLE_SECONDS
        message = await pubsub.get_message(timeout=idle_seconds)
        if message is None:
            quiet_seconds = clock() - received_at
            if quiet_seconds >= 2 * _QUIET_SECONDS:
                raise redis.TimeoutError("no answer")
            if quiet_seconds >= _QUIET_SECONDS and not is_asked:
                await pubsub.ping()
                is_asked = True
            yield Idle()
            continue
        received_at, is_asked = clock(), False
        if message["type"] == "subscribe":
            yield Listening()
        elif message["type"] == "message":
            for one in parse_message(message["data"]):
                yield one


async def _check_role(client: "redis.asyncio.Redis") -> None:
    with contextlib.suppress(redis.exceptions.NoPermissionError):
        await check_role_async(client)
