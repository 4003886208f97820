"""How the text of each kind of setting is read: numbers, addresses, tokens, URLs.

Each function returns the value of a text, or raises ValueError, whose message says what the text must be and holds no
secret.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from shared import connections, disk

Role: TypeAlias = Literal["read", "act"]
Durability: TypeAlias = Literal["fsync", "replica", "memory", "managed"]
SqlErasure: TypeAlias = Literal["erase", "pseudonymise"]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

ANY_NETWORK: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))

_ROLES: Final[tuple[Role, ...]] = ("read", "act")
# NIST SP 800-63B asks for 8 characters if guesses are limited. This password is shared, and nobody need remember it.
_MIN_PASSWORD: Final = 12
_MAX_PASSWORD: Final = 256
_MIN_SECRET: Final = 16
# Where the runbook is in the repository.
RUNBOOK: Final = "docs/operations.md"
_RANDOM_EXAMPLE: Final = "openssl rand -base64 18"


@dataclass(frozen=True, slots=True)
class Token:
    """A secret in a callback URL, and the name of the source that it identifies, in events and logs."""

    name: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OperatorToken:
    """A bearer token of `/api`: its name, which logs and the action log show, and what its owner may do."""

    name: str
    role: Role
    secret: str = field(repr=False)


def integer(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a function that reads a whole number from `minimum` to `maximum`."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", value) or not minimum <= int(value) <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return int(value)

    return parse


def zero_or(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a function that reads 0, or a whole number from `minimum` to `maximum`."""

    def parse(value: str) -> int:
        if value == "0":
            return 0
        try:
            return integer(minimum, maximum)(value)
        except ValueError as exc:
            raise ValueError(f"{exc}, or 0") from None

    return parse


def optional_integer(minimum: int, maximum: int) -> Callable[[str], int | None]:
    """Return a function that reads a whole number from `minimum` to `maximum`, or None from an empty text."""

    def parse(value: str) -> int | None:
        return integer(minimum, maximum)(value) if value else None

    return parse


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host, by its name or address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host_ports(value: str) -> tuple[HostPort, ...]:
    """Return the hosts and ports of a list `host:port,…`, each once."""
    found = []
    for part in filter(None, map(str.strip, value.split(","))):
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", part)
        if match is None or not 1 <= int(match[3]) <= 65535:  # noqa: PLR2004 # ports
            raise ValueError(f"{part!r} is not host:port")
        found.append(HostPort(match[1] or match[2], int(match[3])))
    return tuple(dict.fromkeys(found))


def parse_seconds(value: str) -> float:
    """Return a duration in seconds, greater than 0."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value) or float(value) <= 0:
        raise ValueError("must be a number of seconds greater than 0")
    return float(value)


def parse_text(value: str) -> str:
    """Return the text as it is."""
    return value


def parse_runbook_url(value: str) -> str:
    """Return the URL of the runbook, to which #section is added."""
    if value != RUNBOOK and not re.fullmatch(r"https?://[^\s#\"'{}<>\\]+", value):
        raise ValueError("must be a URL such as https://wiki.example.com/callbacks/operations, without #section")
    return value


def parse_writable_file(value: str) -> str:
    """Return the path of a file, in a folder in which this process can write."""
    if value and (problem := disk.find_write_problem(Path(value).parent)):
        raise ValueError(problem)
    return value


def parse_redis_url(value: str) -> str:
    """Return a URL of Redis that `shared.connections` understands."""
    connections.check_url(value)
    return value


def parse_tokens(value: str) -> tuple[Token, ...]:
    """Return the tokens of `name=token,…`."""
    tokens: list[Token] = []
    for position, part in enumerate(value.split(","), start=1):
        name, equals, secret = part.strip().partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
            raise ValueError(f"entry {position} must be name=token; a name has letters, digits, '_', '.' and '-'")
        if not re.fullmatch(r"[^\s,/?#%\x00-\x20\x7f-\U0010ffff]{1,256}", secret):
            raise ValueError(
                f"the token of {name!r} must be 1 to 256 characters that need no encoding in a URL's path: "
                "no space, no comma, none of / ? # %"
            )
        tokens.append(Token(name, secret))
    if len({token.secret for token in tokens}) < len(tokens):
        raise ValueError("two names have the same token; give each source its own")
    return tuple(tokens)


def parse_operator_tokens(value: str) -> tuple[OperatorToken, ...]:
    """Return the tokens of `name:role=secret,…`."""
    tokens: list[OperatorToken] = []
    for position, part in enumerate(filter(None, (part.strip() for part in value.split(","))), start=1):
        label, equals, secret = part.partition("=")
        name, _, written_role = label.partition(":")
        role = next((one for one in _ROLES if one == written_role), None)
        if not equals or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) or role is None:
            raise ValueError(
                f"entry {position} must be name:role=secret; a name has letters, digits, '_', '.' and '-', "
                "a role is read or act"
            )
        # The characters of a bearer token: RFC 6750, section 2.1.
        if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", secret) or not _MIN_PASSWORD <= len(secret) <= _MAX_PASSWORD:
            raise ValueError(
                f"the secret of {name!r} must have {_MIN_PASSWORD} to {_MAX_PASSWORD} letters, digits and . _ ~ + / -, "
                f"for example: {_RANDOM_EXAMPLE}"
            )
        tokens.append(OperatorToken(name, role, secret))
    if len({token.secret for token in tokens}) < len(tokens):
        raise ValueError("two names have the same secret; give each its own")
    return tuple(tokens)


def parse_header_name(value: str) -> str:
    """Return the name of an HTTP header in lower case, or ""."""
    if value and not re.fullmatch(r"[A-Za-z0-9-]{1,64}", value):
        raise ValueError("must be the name of a header: letters, digits and hyphens")
    return value.lower()


def parse_list(value: str) -> tuple[str, ...]:
    """Return the texts of a list with commas."""
    return tuple(filter(None, (part.strip() for part in value.split(","))))


def parse_networks(value: str) -> tuple[Network, ...]:
    """Return the networks of a list with commas; `*` is any."""
    networks: list[Network] = []
    for part in filter(None, (part.strip() for part in value.split(","))):
        if part == "*":
            networks.extend(ANY_NETWORK)
            continue
        try:
            networks.append(ipaddress.ip_network(part, strict=False))
        except ValueError as exc:
            raise ValueError(f"{part!r} must be an IP address, a network such as 10.0.0.0/8, or *") from exc
    return tuple(networks)


def parse_networks_not_empty(value: str) -> tuple[Network, ...]:
    """Return the networks of a list with commas, at least one."""
    networks = parse_networks(value)
    if not networks:
        raise ValueError("allows no address: name those of the gateway, or * for any")
    return networks


def one_of(*values: str) -> Callable[[str], str]:
    """Return a function that reads one of `values`."""

    def parse(value: str) -> str:
        if value not in values:
            raise ValueError(f"must be {', '.join(values[:-1])} or {values[-1]}")
        return value

    return parse


def parse_level(value: str) -> str:
    """Return the name of a level of Python's logging, in any case."""
    return one_of("DEBUG", "INFO", "WARNING", "ERROR")(value.upper())


def parse_log_format(value: str) -> str:
    """Return the form of the log's lines in lower case."""
    return one_of("text", "json")(value.lower())


def parse_names(value: str) -> tuple[str, ...]:
    """Return the names of handlers and modules, at least one."""
    names = tuple(filter(None, (part.strip() for part in value.split(","))))
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_]*)*", name):
            raise ValueError(f"{name!r} must be the name of a handler or of a module")
    if not names:
        raise ValueError("names no handler, so no event would be delivered; name at least one")
    return names


def parse_targets(value: str) -> tuple[str, ...]:
    """Return the URLs of a list with spaces or commas."""
    # Apprise's URLs may hold commas; one that separates two is followed by a scheme.
    found = tuple(filter(None, re.split(r"\s+|,+(?=\s|$|[A-Za-z][A-Za-z0-9+.-]*://)", value)))
    for position, url in enumerate(found, start=1):
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", url):
            raise ValueError(
                f"target {position} must be a URL such as mailto://… or slack://…; separate several with spaces or "
                "commas, and write a space or comma in a URL as %20 or %2C"
            )
    return found


def parse_secret(value: str) -> str:
    """Return a secret that is long enough, or ""."""
    if value and len(value) < _MIN_SECRET:
        raise ValueError(f"must have at least {_MIN_SECRET} characters, for example: {_RANDOM_EXAMPLE}")
    return value


def parse_password(value: str) -> str:
    """Return a password that is long enough, or ""."""
    if value and not _MIN_PASSWORD <= len(value) <= _MAX_PASSWORD:
        raise ValueError(f"must have {_MIN_PASSWORD} to {_MAX_PASSWORD} characters, for example: {_RANDOM_EXAMPLE}")
    return value
