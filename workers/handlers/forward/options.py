"""Parses the value of each variable of a target. A wrong value raises ValueError, whose text quotes no secret."""

import base64
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from callbacks import ReplyEvent, ReportEvent
from workers.handlers.forward import signature

EventClass = type[ReportEvent] | type[ReplyEvent]

_KINDS: Final[Mapping[str, EventClass]] = {"report": ReportEvent, "reply": ReplyEvent}
_MAX_SECONDS: Final = 300.0
_MAX_CONCURRENCY: Final = 512
_MAX_PORT: Final = 65535
# RFC 9110, 5.6.2. The handler itself sets the headers below.
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_OWN_HEADERS: Final = frozenset(("host", "content-type", "content-length", "transfer-encoding", "connection", "expect"))


def url(value: str) -> httpx.URL:
    """Parse an http or https URL. Any part of it may be secret, so errors quote nothing of it."""
    try:
        read = httpx.URL(value)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise ValueError("cannot be read: write https://host/path") from None
    if read.scheme not in ("http", "https") or not read.host:
        raise ValueError("must begin with https:// (or http://) and a host")
    if read.fragment:
        raise ValueError("has a fragment (#…), which is never sent: remove it")
    if read.port is not None and not 1 <= read.port <= _MAX_PORT:
        raise ValueError(f"has a port that is not from 1 to {_MAX_PORT}")
    return read


def kinds(value: str) -> tuple[EventClass, ...]:
    """Parse the kinds of event: report, reply, or both."""
    names = words(value)
    if not names <= set(_KINDS):
        raise ValueError(f"must be report, reply, or both with a comma between them, not {value!r}")
    return tuple(kind for name, kind in _KINDS.items() if name in names)


def words(value: str) -> frozenset[str]:
    """Parse words separated by commas."""
    found = frozenset(filter(None, (part.strip() for part in value.split(","))))
    if not found:
        raise ValueError("is an empty list, so no event would match: unset it to match all")
    return found


def boolean(value: str) -> bool:
    """Parse true or false."""
    if value not in ("true", "false"):
        raise ValueError(f"must be true or false, not {value!r}")
    return value == "true"


def ca_file(value: str) -> Path:
    """Return the path of a file of PEM certificates. Raise ValueError if it has none."""
    try:
        ssl.create_default_context(cafile=value)
    except OSError as exc:
        why = "it holds no certificate in PEM" if isinstance(exc, ssl.SSLError) else exc.strerror
        raise ValueError(f"{value!r} cannot be used: {why}") from None
    return Path(value)


def seconds(value: str) -> float:
    """Parse a number of seconds."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", value) or not 0 < float(value) <= _MAX_SECONDS:
        raise ValueError(f"must be a number of seconds above 0 and up to {_MAX_SECONDS:g}, not {value!r}")
    return float(value)


def concurrency(value: str) -> int:
    """Parse how many events are in flight at most."""
    if not re.fullmatch(r"[0-9]{1,6}", value) or not 1 <= int(value) <= _MAX_CONCURRENCY:
        raise ValueError(f"must be a whole number from 1 to {_MAX_CONCURRENCY}, not {value!r}")
    return int(value)


def headers(value: str) -> Mapping[str, str]:
    """Parse additional headers: Name=value, separated by commas."""
    found: dict[str, str] = {}
    for position, part in enumerate(value.split(","), start=1):
        name, equals, content = (piece.strip() for piece in part.partition("="))
        if not equals or not _HEADER_NAME.fullmatch(name) or not re.fullmatch(r"[\x20-\x7e]+", content):
            raise ValueError(f"entry {position} must be Name=value, in ASCII and without a comma")
        if name.lower() in _OWN_HEADERS or name.lower().startswith("webhook-"):
            raise ValueError(f"{name} is set by the handler itself: remove it")
        found[name] = content
    return found


def basic_auth_header(address: httpx.URL) -> Mapping[str, str]:
    """Return the Authorization header for the user and password in a URL (RFC 7617); empty if it has none."""
    if not address.userinfo:
        return {}
    pair = f"{address.username}:{address.password}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "URL": url,
    "SECRETS": signature.parse_secrets,
    "SECRETS_FILE": signature.read_secrets_file,
    "KINDS": kinds,
    "STATUSES": words,
    "CHANNELS": words,
    "SOURCES": words,
    "FINAL": boolean,
    "OPT_OUTS": boolean,
    "FORGET": boolean,
    "CA": ca_file,
    "ALLOW_PRIVATE": boolean,
    "TIMEOUT_SECONDS": seconds,
    "CONCURRENCY": concurrency,
    "HEADERS": headers,
}
