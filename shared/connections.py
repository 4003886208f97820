"""Connections to Redis, with explicit time-outs and without retries.

redis-py by default repeats a failed command up to ten times, so a commit whose reply was lost could be stored twice
unnoticed. Here nothing is repeated: the code that sends a command decides that.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from shared import primary, redis_url

# The gateway waits for its response, and so do the commits behind this one.
WEB_TIMEOUT_SECONDS: Final = 5.0
# A worker may wait for a fan-out of a thousand events, or for Redis to write to a slow disk.
WORKER_TIMEOUT_SECONDS: Final = 30.0
CONNECT_TIMEOUT_SECONDS: Final = 3.0
# They are asked one after another, before anything else, and reply from memory: three that hang take 9 s.
SENTINEL_TIMEOUT_SECONDS: Final = 3.0

# How Redis answers HELLO, or any other command, of a client that sent no password.
_PASSWORD_ASKED: Final = (
    "HELLO must be called with the client already authenticated",
    "NOAUTH",
    "Authentication required",
)
# By scheme: for a blocking client, and for asyncio.
_CLASSES: Final[dict[str, tuple[Any, Any]]] = {
    "redis": (primary.PrimaryConnection, primary.AsyncPrimaryConnection),
    "rediss": (primary.PrimarySSLConnection, primary.AsyncPrimarySSLConnection),
    "unix": (primary.PrimaryUnixConnection, primary.AsyncPrimaryUnixConnection),
}
# By whether TLS is used.
_SENTINEL_CLASSES: Final[dict[bool, tuple[Any, Any]]] = {
    False: (primary.PrimarySentinelConnection, primary.AsyncPrimarySentinelConnection),
    True: (primary.PrimarySentinelSSLConnection, primary.AsyncPrimarySentinelSSLConnection),
}


def connect(url: str, *, timeout_seconds: float = WORKER_TIMEOUT_SECONDS) -> redis.Redis:
    """Return a client for `url`. Nothing is sent yet: network errors are raised by the first command."""
    address = redis_url.parse(url)
    options = _options(address.scheme, timeout_seconds) | {"retry": Retry(NoBackoff(), 0)}
    target = address.sentinel
    if target is not None:
        sentinel = Sentinel(target.nodes, sentinel_kwargs=_sentinel_options(options, target))
        client: redis.Redis = sentinel.master_for(
            target.service,
            connection_pool_class=primary.PrimarySentinelPool,
            connection_class=_SENTINEL_CLASSES[target.is_encrypted][0],
            **options,
            **target.redis_options,
        )
        return client
    return redis.Redis.from_url(address.url, connection_class=_CLASSES[address.scheme][0], **options)


def connect_async(url: str, *, timeout_seconds: float | None = WEB_TIMEOUT_SECONDS) -> "redis.asyncio.Redis":
    """Return an asyncio client for `url`. If `timeout_seconds` is None, the caller limits what it awaits."""
    address = redis_url.parse(url)
    options = _options(address.scheme, timeout_seconds) | {"retry": AsyncRetry(NoBackoff(), 0)}
    target = address.sentinel
    if target is not None:
        sentinel = AsyncSentinel(target.nodes, sentinel_kwargs=_sentinel_options(options, target))
        client: redis.asyncio.Redis = sentinel.master_for(
            target.service,
            connection_pool_class=primary.AsyncPrimarySentinelPool,
            connection_class=_SENTINEL_CLASSES[target.is_encrypted][1],
            **options,
            **target.redis_options,
        )
        return client
    return redis.asyncio.Redis.from_url(address.url, connection_class=_CLASSES[address.scheme][1], **options)


def check_url(url: str) -> None:
    """Raise ValueError if `connect` cannot use `url`. Its message quotes no secret."""
    redis_url.check(url)


def redact_url(url: str) -> str:
    """Return `url` without user, password and options, for messages."""
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{address}{parts.path}"


def describe_error(error: BaseException, *, variable: str = "REDIS_URL") -> str:
    """Return what an error of Redis says in one sentence without a full stop; `variable` has the URL."""
    words = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if words.startswith(_PASSWORD_ASKED):
        return f"Redis asks for a password: put it into {variable}, redis://:PASSWORD@host"
    for pattern, plain in _OF_REDIS_PY:
        if found := pattern.match(words):
            return found.expand(plain).rstrip(".: ")
    # What redis-py appends to it is the repr of its connection.
    return words.partition(" : <")[0].rstrip(". ")


# redis-py puts the number of an error of the system, or the arguments of its exception, into a sentence.
_OF_REDIS_PY: Final = (
    (re.compile(r"Error \S+ connecting to (\S+)\. ?(.*)"), r"cannot connect to \1: \2"),
    (re.compile(r"Error \S+ while writing to socket\. ?(.*)"), r"the connection broke: \1"),
    (re.compile(r"Error while reading from \S+ ?: \((?:-?\d+, )?['\"]?(.*?)['\"]?,?\)"), r"the connection broke: \1"),
)


def _sentinel_options(options: Mapping[str, Any], target: redis_url.SentinelService) -> dict[str, Any]:
    timeout_seconds = min(options["socket_timeout"] or SENTINEL_TIMEOUT_SECONDS, SENTINEL_TIMEOUT_SECONDS)
    return {**options, "socket_timeout": timeout_seconds, **target.sentinel_options}


def _options(scheme: str, timeout_seconds: float | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "health_check_interval": 0,
    }
    # redis-py has no keep-alive option for a Unix socket, and refuses it.
    return options if scheme == "unix" else options | {"socket_keepalive": True}
