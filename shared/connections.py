"""Connections to Redis, with time-outs and retries set on purpose.

redis-py by itself repeats a failed command up to ten times, so a commit whose answer got lost could be stored
twice without anyone knowing. Here nothing is repeated: whoever sends a command decides that.
"""

from typing import Any, Final
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

# The gateway waits for its answer, and the commits behind this one wait too.
WEB_TIMEOUT_SECONDS: Final = 5.0
# A worker may wait for a fan-out of a thousand events, or for Redis to write a slow disk.
WORKER_TIMEOUT_SECONDS: Final = 30.0
CONNECT_TIMEOUT_SECONDS: Final = 3.0


def connect(url: str, *, timeout_seconds: float = WORKER_TIMEOUT_SECONDS) -> redis.Redis:
    """Give a client for `url`. Nothing is sent yet; errors of the network come with the first command."""
    options = _options(url, timeout_seconds) | {"retry": Retry(NoBackoff(), 0)}
    if "+sentinel" in urlsplit(url).scheme:
        nodes, service, own = _sentinel(url)
        sentinel = Sentinel(nodes, sentinel_kwargs=options, **own, **options)
        client: redis.Redis = sentinel.master_for(service)
        return client
    return redis.Redis.from_url(url, **options)


def connect_async(url: str, *, timeout_seconds: float | None = WEB_TIMEOUT_SECONDS) -> "redis.asyncio.Redis":
    """Give an asyncio client for `url`; without `timeout_seconds` the caller sets a limit to what he awaits."""
    options = _options(url, timeout_seconds) | {"retry": AsyncRetry(NoBackoff(), 0)}
    if "+sentinel" in urlsplit(url).scheme:
        nodes, service, own = _sentinel(url)
        asked = options | {"socket_timeout": timeout_seconds or WEB_TIMEOUT_SECONDS}
        sentinel = AsyncSentinel(nodes, sentinel_kwargs=asked, **own, **options)
        client: redis.asyncio.Redis = sentinel.master_for(service)
        return client
    return redis.asyncio.Redis.from_url(url, **options)


def check(url: str) -> None:
    """Raise ValueError, in words that hold nothing of `url`, if `connect` could not use it."""
    schemes = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
    try:
        parts = urlsplit(url)
        if "+sentinel" in parts.scheme:
            _sentinel(url)
        else:
            parse_url(url)
    except ValueError:
        parts = None
    # Not chained: what the parsers say may hold a part of the password.
    if parts is None or parts.scheme not in schemes or not (parts.netloc or parts.path):
        raise ValueError(
            f"must be an address that begins with one of {', '.join(scheme + '://' for scheme in schemes)}, with a "
            "number for its port and its database; in a password write the characters / ? # @ : % as %XX"
        )


def shown(url: str) -> str:
    """Give `url` without its password, for messages."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}{parts.path}"


def _options(url: str, timeout_seconds: float | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "health_check_interval": 0,
    }
    # redis-py knows no keep-alive for a Unix socket, and refuses to be told of one.
    return options if urlsplit(url).scheme == "unix" else options | {"socket_keepalive": True}


def _node(place: str) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname or parts.path or parts.query:
        raise ValueError("a Sentinel must be host or host:port")
    return parts.hostname, parts.port or 26379


def _sentinel(url: str) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """Take apart redis+sentinel://[user[:password]@]host[:port],host[:port]/service[/db]."""
    parts = urlsplit(url)
    login, _, places = parts.netloc.rpartition("@")
    nodes = [_node(place) for place in places.split(",")]
    service, _, db = parts.path.strip("/").partition("/")
    user, _, password = login.partition(":")
    own: dict[str, Any] = {"db": int(db or 0), "ssl": parts.scheme == "rediss+sentinel"}
    if user:
        own["username"] = unquote(user)
    if password:
        own["password"] = unquote(password)
    return nodes, service or "mymaster", own
