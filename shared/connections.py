"""Connections to Redis, with explicit time-outs and without retries.

redis-py by default repeats a failed command up to ten times, so a commit whose reply was lost could be stored twice
unnoticed. Here nothing is repeated: the code that sends a command decides that.
"""

import re
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

# The gateway waits for its response, and so do the commits behind this one.
WEB_TIMEOUT_SECONDS: Final = 5.0
# A worker may wait for a fan-out of a thousand events, or for Redis to write to a slow disk.
WORKER_TIMEOUT_SECONDS: Final = 30.0
CONNECT_TIMEOUT_SECONDS: Final = 3.0

_SENTINEL: Final = "+sentinel"
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
# A URL cannot set time-outs and retries: they are set here.
_OPTIONS: Final = frozenset(
    (
        *("db", "username", "password", "client_name"),
        *("ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile", "ssl_password"),
        *("ssl_check_hostname", "ssl_ciphers", "ssl_min_version"),
    )
)
_SENTINEL_OPTIONS: Final = frozenset(("sentinel_username", "sentinel_password", "sentinel_ssl"))


def connect(url: str, *, timeout_seconds: float = WORKER_TIMEOUT_SECONDS) -> redis.Redis:
    """Return a client for `url`. Nothing is sent yet: network errors are raised by the first command."""
    options = _options(url, timeout_seconds) | {"retry": Retry(NoBackoff(), 0)}
    scheme = urlsplit(url).scheme
    if scheme.endswith(_SENTINEL):
        target = _sentinels(url)
        sentinel = Sentinel(target.nodes, sentinel_kwargs=options | target.sentinel_options)
        client: redis.Redis = sentinel.master_for(
            target.service,
            connection_pool_class=primary.PrimarySentinelPool,
            connection_class=_SENTINEL_CLASSES[target.is_encrypted][0],
            **options,
            **target.redis_options,
        )
        return client
    return redis.Redis.from_url(url, connection_class=_CLASSES[scheme][0], **options)


def connect_async(url: str, *, timeout_seconds: float | None = WEB_TIMEOUT_SECONDS) -> "redis.asyncio.Redis":
    """Return an asyncio client for `url`. If `timeout_seconds` is None, the caller limits what it awaits."""
    options = _options(url, timeout_seconds) | {"retry": AsyncRetry(NoBackoff(), 0)}
    scheme = urlsplit(url).scheme
    if scheme.endswith(_SENTINEL):
        target = _sentinels(url)
        sentinel_options = (
            options | {"socket_timeout": timeout_seconds or WEB_TIMEOUT_SECONDS} | target.sentinel_options
        )
        sentinel = AsyncSentinel(target.nodes, sentinel_kwargs=sentinel_options)
        client: redis.asyncio.Redis = sentinel.master_for(
            target.service,
            connection_pool_class=primary.AsyncPrimarySentinelPool,
            connection_class=_SENTINEL_CLASSES[target.is_encrypted][1],
            **options,
            **target.redis_options,
        )
        return client
    return redis.asyncio.Redis.from_url(url, connection_class=_CLASSES[scheme][1], **options)


def check_url(url: str) -> None:
    """Raise ValueError if `connect` cannot use `url`. Its message quotes only names of options."""
    schemes = (*_CLASSES, *(f"{scheme}{_SENTINEL}" for scheme in ("redis", "rediss")))
    try:
        parts = urlsplit(url)
        if parts.scheme.endswith(_SENTINEL):
            _sentinels(url)
        else:
            parse_url(url)
    except ValueError:
        parts = None
    # Not chained: the parsers' messages may hold a part of the password.
    if parts is None or parts.scheme not in schemes or not (parts.netloc or parts.path):
        raise ValueError(
            f"must be a URL that begins with one of {', '.join(scheme + '://' for scheme in schemes)}; its port and "
            "its database must be numbers; in a password write the characters / ? # @ : % as %XX"
        )
    known = _OPTIONS | (_SENTINEL_OPTIONS if parts.scheme.endswith(_SENTINEL) else frozenset())
    unknown = sorted(name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if name not in known)
    if unknown:
        raise ValueError(f"has unknown options: {', '.join(unknown)}; the known ones are {', '.join(sorted(known))}")


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


def _options(url: str, timeout_seconds: float | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "health_check_interval": 0,
    }
    # redis-py has no keep-alive option for a Unix socket, and refuses it.
    return options if urlsplit(url).scheme == "unix" else options | {"socket_keepalive": True}


def _parse_node(address: str) -> tuple[str, int]:
    parts = urlsplit(f"//{address}")
    if not parts.hostname or parts.path or parts.query:
        raise ValueError("a Sentinel must be host or host:port")
    return parts.hostname, parts.port or 26379


class _SentinelService(NamedTuple):
    """The Sentinels, the name of their service, and the options of the connections to Redis and to Sentinels."""

    nodes: list[tuple[str, int]]
    service: str
    is_encrypted: bool
    redis_options: dict[str, Any]
    sentinel_options: dict[str, Any]


def _sentinels(url: str) -> _SentinelService:
    """Parse redis+sentinel://[user[:password]@]host[:port],host[:port]/service[/db][?options].

    User and password are for Redis; for the Sentinels there are `sentinel_username` and `sentinel_password`. With
    rediss+sentinel:// both connections use TLS and the same ssl_… options, unless `sentinel_ssl=false`.
    """
    parts = urlsplit(url)
    login, _, addresses = parts.netloc.rpartition("@")
    nodes = [_parse_node(address) for address in addresses.split(",")]
    service, _, db = parts.path.strip("/").partition("/")
    user, _, password = login.partition(":")
    # redis-py converts each option to its type.
    options: dict[str, Any] = parse_url(f"redis://host/?{parts.query}")
    options.pop("host")
    own = {name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS if name in options}
    is_encrypted = parts.scheme == f"rediss{_SENTINEL}"
    encryption = {name: value for name, value in options.items() if name.startswith("ssl_")} if is_encrypted else {}
    redis_options = {"db": int(db or 0)} | {
        name: value for name, value in options.items() if not name.startswith("ssl_")
    }
    sentinel_options: dict[str, Any] = {}
    if _parse_bool(own.pop("ssl", str(is_encrypted))):
        sentinel_options = {"ssl": True, **{name: value for name, value in options.items() if name.startswith("ssl_")}}
    if user:
        redis_options["username"] = unquote(user)
    if password:
        redis_options["password"] = unquote(password)
    return _SentinelService(
        nodes, service or "mymaster", is_encrypted, redis_options | encryption, sentinel_options | own
    )


def _parse_bool(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError("sentinel_ssl must be true or false")
    return words[text.lower()]
