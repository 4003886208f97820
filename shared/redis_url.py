"""REDIS_URL: which URLs there are, what is wrong with one, and what one of Sentinels names.

    redis://[[user]:password@]host[:port][/db][?options]       valkey:// is the same
    rediss://…                                                 with TLS; valkeys:// is the same
    unix://[[user]:password@]/path[?db=N]                      a Unix socket
    redis+sentinel://[[user]:password@]host[:port],…/service[/db][?options]     also rediss, valkey, valkeys

redis-py ignores what it does not understand of a URL: it would use database 0, another port, or no TLS. So what would
not be used as it is written is refused here, with its name. No message holds a value that may be secret.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from shared import redis_url_options

SENTINEL: Final = "+sentinel"
# What redis-py knows, by what may be written.
_PLAIN: Final = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}
_SCHEMES: Final[Mapping[str, str]] = _PLAIN | {
    f"{written}{SENTINEL}": f"{known}{SENTINEL}" for written, known in _PLAIN.items() if known != "unix"
}
_SENTINEL_PORT: Final = 26379


class SentinelService(NamedTuple):
    """The Sentinels, the name of their service, and the options of the connections to Redis and to Sentinels."""

    nodes: list[tuple[str, int]]
    service: str
    is_encrypted: bool
    redis_options: dict[str, Any]
    sentinel_options: dict[str, Any]


class RedisUrl(NamedTuple):
    """A URL that redis-py takes, its scheme, its options, and what it names if it is one of Sentinels."""

    url: str
    scheme: str
    options: dict[str, Any]
    sentinel: SentinelService | None


def check(url: str) -> None:
    """Raise ValueError if `url` cannot be used, or names a file that is not there: what is wrong, and what to do."""
    problem = redis_url_options.find_file_problem(parse(url).options)
    if problem is not None:
        raise ValueError(problem)


def parse(url: str) -> RedisUrl:
    """Return what `url` means. Raise ValueError as `check`, but read no file."""
    parts = _split(url)
    scheme = _SCHEMES[parts.scheme]
    is_sentinel = scheme.endswith(SENTINEL)
    options = redis_url_options.read(parts.query, of_sentinels=is_sentinel)
    _check_tls(scheme, options)
    if is_sentinel:
        service = _sentinel_service(parts, scheme, options)
    elif scheme == "unix":
        service = None
        if parts.hostname or not parts.path:
            raise ValueError("must name a socket by its whole path: unix:///run/redis/redis.sock")
    else:
        service = None
        _check_host(parts.netloc.rpartition("@")[2])
        _database(parts.path.strip("/"), options)
    return RedisUrl(f"{scheme}{url.strip()[len(parts.scheme) :]}", scheme, options, service)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in _SCHEMES or not (parts.netloc or parts.path):
        raise _unreadable()
    # The rest of a password with a # or a ? in it: neither may be quoted as the name of an option.
    if parts.fragment or ("@" in parts.query and "@" not in parts.netloc):
        raise _unreadable()
    return parts


def _unreadable() -> ValueError:
    # Raised without a cause: the parsers' messages may hold a part of the password.
    return ValueError(
        f"must be a URL that begins with one of {', '.join(f'{scheme}://' for scheme in _SCHEMES)}; its port and "
        "its database must be numbers; in a password write the characters / ? # @ : % as %XX"
    )


def _check_host(address: str) -> None:
    if re.fullmatch(r"[\w.-]+(:[0-9]+)?(,[\w.-]+(:[0-9]+)?)+", address):
        raise ValueError("names several hosts, which only Sentinels can be: redis+sentinel://host1,host2/service/0")
    _parse_node(address or "localhost", 6379)


def _parse_node(address: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        port = default_port if parts.port is None else parts.port
    except ValueError:
        raise _unreadable() from None
    if not parts.hostname or parts.path or parts.query or not port:
        raise _unreadable()
    return parts.hostname, port


def _database(path: str, options: Mapping[str, Any]) -> int:
    """Return the database that the path or the option `db` names."""
    text = unquote(path)
    if text and not re.fullmatch(r"[0-9]{1,9}", text):
        raise _unreadable()
    database = int(text or options.get("db", 0))
    if database != options.get("db", database):
        raise ValueError("names one database in its path and another in its option db; write only one of them")
    return database


def _check_tls(scheme: str, options: Mapping[str, Any]) -> None:
    is_encrypted = scheme.startswith("rediss")
    sentinels_are = bool(options.get("sentinel_ssl", is_encrypted)) and scheme.endswith(SENTINEL)
    useless = sorted(
        name
        for name in options
        if (name.startswith("ssl_") and not (is_encrypted or sentinels_are))
        or (name.startswith("sentinel_ssl_") and not sentinels_are)
    )
    if useless:
        remedy = "remove them, or begin the URL with rediss" if scheme != "unix" else "remove them"
        remedy += " or set sentinel_ssl=true" if scheme.endswith(SENTINEL) else ""
        raise ValueError(f"has options of TLS for a connection without TLS: {', '.join(useless)}; {remedy}")


def _sentinel_service(parts: SplitResult, scheme: str, options: Mapping[str, Any]) -> SentinelService:
    """Return what the URL names. User and password in its address, and options without a prefix, are for Redis.

    If both connections use TLS, the ssl_… options are for both, and sentinel_ssl_… says otherwise for the Sentinels.
    """
    login, _, addresses = parts.netloc.rpartition("@")
    service, _, path = parts.path.strip("/").partition("/")
    user, _, password = login.partition(":")
    own = {name.removeprefix("sentinel_"): options[name] for name in options if name.startswith("sentinel_")}
    tls = {name: options[name] for name in options if name.startswith("ssl_")}
    is_encrypted = scheme.startswith("rediss")
    sentinels_are_encrypted = own.pop("ssl", is_encrypted)
    redis_options = {
        **{name: options[name] for name in ("username", "password", "client_name") if name in options},
        "db": _database(path, options),
        **({"username": unquote(user)} if user else {}),
        **({"password": unquote(password)} if password else {}),
        **(tls if is_encrypted else {}),
    }
    return SentinelService(
        [_parse_node(address, _SENTINEL_PORT) for address in addresses.split(",")],
        unquote(service) or "mymaster",
        is_encrypted,
        redis_options,
        {**({"ssl": True, **tls} if sentinels_are_encrypted else {}), **own},
    )
