"""The feed of live events: new events are published when they are enqueued for handlers, for those who watch.

It is meant for people: it may miss events, for example after a reconnection, and its rate is limited. Expand workers
publish in the step that enqueues the events (`workers/expand/live.lua`), and only while somebody listens, so it costs
nothing unwatched, and no round trip watched. A listener that stops reading delays nobody: its buffer in Redis grows by
at most MAX_BYTES_PER_SECOND, and Redis disconnects it at `client-output-buffer-limit pubsub`.

    cb:live:<database>    a message: [version, how many events it does not show, [event, …]], each as `events.decode`
                          reads it, or sealed
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, Final, TypeAlias

import msgspec
import redis
import redis.asyncio
from msgspec import Struct

from shared import connections, events, keys, sealed_data
from shared.events import Event
from shared.primary import check_role_async

# More than a person can read; it also limits how fast the buffer of a listener that has stopped reading grows.
MAX_EVENTS_PER_SECOND: Final = 100
MAX_BYTES_PER_SECOND: Final = 256 << 10

_VERSION: Final = 1
# A PING is sent after this silence. Without an answer in the same time again, Redis is unavailable.
_QUIET_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.5
_ROLE_SECONDS: Final = 5.0

_decoder = msgspec.json.Decoder(tuple[int, int, msgspec.Raw])


class Omitted(Struct, frozen=True):
    """This number of new events is not in the feed: too many arrived at once, or one was too large."""

    number: int


class Listening(Struct, frozen=True):
    """Listening has started: at the start, and each time Redis is back."""


class FeedUnavailable(Struct, frozen=True):
    """Redis is unavailable, and new events are missed; sent once until the next Listening."""

    error: str


class SealedEvents(Struct, frozen=True):
    """New events are not in the feed, as this process cannot open them; the error says why."""

    error: str


class Idle(Struct, frozen=True):
    """Nothing has happened for a while: the caller can check other things."""


FeedItem: TypeAlias = Event | Omitted | SealedEvents | Listening | FeedUnavailable | Idle


def channel(client: "redis.Redis | redis.asyncio.Redis") -> str:
    """Return the feed's channel; it has the number of the database, since channels are shared by all databases."""
    return keys.live_channel(int(client.get_connection_kwargs().get("db") or 0))


async def listen(url: str, *, idle_seconds: float = 1.0) -> AsyncGenerator[FeedItem, None]:
    """Yield what arrives from now on, without end; Idle after each `idle_seconds` without an item.

    Wait while Redis is unavailable. Raise redis.RedisError if waiting would not help: wrong password, no right to
    listen. Do not cancel the wait for the next item, which ends the generator: Idle makes that unnecessary.
    """
    client = connections.connect_async(url)
    is_unavailable = False
    try:
        while True:
            pubsub: Any = client.pubsub()  # which has no types
            try:
                await pubsub.subscribe(channel(client))
                await _check_role(client)
                async for items in _receive(pubsub, client, idle_seconds):
                    is_unavailable = False
                    yield items
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
    """Yield the same for synchronous callers."""
    with asyncio.Runner() as runner:
        items = listen(url, idle_seconds=idle_seconds)

        async def following() -> FeedItem:
            return await anext(items)

        while True:
            yield runner.run(following())


def parse_message(message: bytes) -> Iterator[Event | Omitted | SealedEvents]:
    """Yield the events of a message, and how many it omits. A message of another release is omitted as a whole."""
    try:
        version, omitted, encoded = _decoder.decode(sealed_data.unseal(message, sealed_data.EVENTS))
        found = events.decode(encoded) if version == _VERSION else []
    except sealed_data.SealKeyMissing as exc:
        yield SealedEvents(str(exc))
        return
    except (sealed_data.Sealed, msgspec.MsgspecError, RecursionError):
        omitted, found = 1, []
    yield from found
    if omitted:
        yield Omitted(omitted)


async def _receive(pubsub: Any, client: "redis.asyncio.Redis", idle_seconds: float) -> AsyncIterator[FeedItem]:
    """Yield what arrives over one connection.

    Raise redis.TimeoutError if a PING has no answer, and Demoted if the server became a replica, which still answers
    but may get no new events.
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
