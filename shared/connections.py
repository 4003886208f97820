"""Connections to Redis, with time-outs and retries set on purpose.

redis-py by itself repeats a failed command up to ten times, so a commit whose answer got lost could be stored
twice without anyone knowing. Here nothing is repeated: whoever sends a command decides that.
"""

from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from shared import primary

# The gateway waits for its answer, and the commits behind this one wait too.
WEB_TIMEOUT_SECONDS: Final = 5.0
# A worker may wait for a fan-out of a thousand events, or for Redis to write a slow disk.
WORKER_TIMEOUT_SECONDS: Final = 30.0
CONNECT_TIMEOUT_SECONDS: Final = 3.0

_SENTINEL: Final = "+sentinel"
# By scheme: for a client that blocks, and for asyncio.
_CLASSES: Final[dict[str, tuple[Any, Any]]] = {
    "redis": (primary.PrimaryConnection, primary.AsyncPrimaryConnection),
    "rediss": (primary.PrimarySSLConnection, primary.AsyncPrimarySSLConnection),
    "unix": (primary.PrimaryUnixConnection, primary.AsyncPrimaryUnixConnection),
}
# By whether TLS is spoken.
_SENTINEL_CLASSES: Final[dict[bool, tuple[Any, Any]]] = {
    False: (primary.PrimarySentinelConnection, primary.AsyncPrimarySentinelConnection),
    True: (primary.PrimarySentinelSSLConnection, primary.AsyncPrimarySentinelSSLConnection),
}
# Time-outs and retries are ours, so an address cannot set them.
_OPTIONS: Final = frozenset(
    (
        *("db", "username", "password", "client_name"),
        *("ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile", "ssl_password"),
        *("ssl_check_hostname", "ssl_ciphers", "ssl_min_version"),
    )
)
_SENTINEL_OPTIONS: Final = frozenset(("sentinel_username", "sentinel_password", "sentinel_ssl"))


def connect(url: str, *, timeout_seconds: float = WORKER_TIMEOUT_SECONDS) -> redis.Redis:
    """Return a client for `url`. Nothing is sent yet; errors of the network come with the first command."""
    options = _options(url, timeout_seconds) | {"retry": Retry(NoBackoff(), 0)}
    scheme = urlsplit(url).scheme
    if scheme.endswith(_SENTINEL):
        target = _sentinels(url)
        sentinel = Sentinel(target.nodes, sentinel_kwargs=options | target.asking)
        client: redis.Redis = sentinel.master_for(
            target.service,
            connection_pool_class=primary.PrimarySentinelPool,
            connection_class=_SENTINEL_CLASSES[target.is_encrypted][0],
            **options,
            **target.serving,
        )
        return client
    return redis.Redis.from_url(url, connection_class=_CLASSES[scheme][0], **options)


def connect_async(url: str, *, timeout_seconds: float | None = WEB_TIMEOUT_SECONDS) -> "redis.asyncio.Redis":
    """Return an asyncio client for `url`; without `timeout_seconds` the caller sets a limit to what it awaits."""
    options = _options(url, timeout_seconds) | {"retry": AsyncRetry(NoBackoff(), 0)}
    scheme = urlsplit(url).scheme
    if scheme.endswith(_SENTINEL):
        target = _sentinels(url)
        asking = options | {"socket_timeout": timeout_seconds or WEB_TIMEOUT_SECONDS} | target.asking
        sentinel = AsyncSentinel(target.nodes, sentinel_kwargs=asking)
        client: redis.asyncio.Redis = sentinel.master_for(
            target.service,
            connection_pool_class=primary.AsyncPrimarySentinelPool,
            connection_class=_SENTINEL_CLASSES[target.is_encrypted][1],
            **options,
            **target.serving,
        )
        return client
    return redis.asyncio.Redis.from_url(url, connection_class=_CLASSES[scheme][1], **options)


def check_url(url: str) -> None:
    """Raise ValueError, in words that hold nothing of `url` but names of its options, if `connect` could not use it."""
    schemes = (*_CLASSES, *(f"{scheme}{_SENTINEL}" for scheme in ("redis", "rediss")))
    try:
        parts = urlsplit(url)
        if parts.scheme.endswith(_SENTINEL):
            _sentinels(url)
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
    known = _OPTIONS | (_SENTINEL_OPTIONS if parts.scheme.endswith(_SENTINEL) else frozenset())
    unknown = sorted(name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if name not in known)
    if unknown:
        raise ValueError(
            f"has options that are not understood: {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )


def redact_url(url: str) -> str:
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


class _Target(NamedTuple):
    """Where Sentinels are, what they are asked for, and the options of both kinds of connections."""

    nodes: list[tuple[str, int]]
    service: str
    is_encrypted: bool
    serving: dict[str, Any]
    asking: dict[str, Any]


def _sentinels(url: str) -> _Target:
    """Take apart redis+sentinel://[user[:password]@]host[:port],host[:port]/service[/db][?options].

    User and password are Redis's; Sentinels have `sentinel_username` and `sentinel_password` of their own. With
    rediss+sentinel:// both are spoken to with TLS and the same ssl_… options, unless `sentinel_ssl=false`.
    """
    parts = urlsplit(url)
    login, _, places = parts.netloc.rpartition("@")
    nodes = [_node(place) for place in places.split(",")]
    service, _, db = parts.path.strip("/").partition("/")
    user, _, password = login.partition(":")
    # redis-py knows the type of each option.
    options: dict[str, Any] = parse_url(f"redis://host/?{parts.query}")
    options.pop("host")
    own = {name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS if name in options}
    is_encrypted = parts.scheme == f"rediss{_SENTINEL}"
    encryption = {name: value for name, value in options.items() if name.startswith("ssl_")} if is_encrypted else {}
    serving = {"db": int(db or 0)} | {name: value for name, value in options.items() if not name.startswith("ssl_")}
    asking: dict[str, Any] = {}
    if _truth(own.pop("ssl", str(is_encrypted))):
        asking = {"ssl": True, **{name: value for name, value in options.items() if name.startswith("ssl_")}}
    if user:
        serving["username"] = unquote(user)
    if password:
        serving["password"] = unquote(password)
    return _Target(nodes, service or "mymaster", is_encrypted, serving | encryption, asking | own)


def _truth(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError("sentinel_ssl must be true or false")
    return words[text.lower()]
