"""Where a request comes from: the client's address, HTTPS or not, and the host it names.

X-Forwarded-For, -Proto and -Host count only from CALLBACKS_TRUSTED_PROXIES, as at the public edge.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from ingest.sources import AddressRules, parse_address
from shared.setting_values import ANY_NETWORK, Network

_LOOPBACK_NAMES: Final = frozenset(("localhost", "127.0.0.1", "[::1]"))
_SAME_SITE: Final = ("same-origin", "none")
# A client with one IPv6 address has at least 2^64 of them.
_IPV6_PREFIX: Final = 64


class RequestOrigin:
    """Reads the origin of requests from their connection and headers."""

    def __init__(self, trusted: Iterable[Network]) -> None:
        self._rules = AddressRules(allowed=ANY_NETWORK, trusted=trusted)

    def address(self, scope: Scope) -> str:
        """Return the client for counting attempts: an IPv4 address or an IPv6 network."""
        decision = self._rules.decide(_peer(scope), _lines(scope))
        address = parse_address(decision.label)
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
        return decision.label

    def is_from_trusted_proxy(self, scope: Scope) -> bool:
        """Return whether the connection is that of a proxy in CALLBACKS_TRUSTED_PROXIES."""
        return self._rules.trusts(_peer(scope))

    def is_https(self, scope: Scope) -> bool:
        """Return whether the client used HTTPS, to this process or to the proxy."""
        return scope["scheme"] == "https" or self._forwarded(scope, "x-forwarded-proto").lower() == "https"

    def host(self, scope: Scope) -> str:
        """Return the requested host and port, in lower case."""
        return (self._forwarded(scope, "x-forwarded-host") or Headers(scope=scope).get("host", "")).lower()

    def is_local_host(self, scope: Scope) -> bool:
        """Return whether the request names this machine as nobody else can (against DNS rebinding).

        Both Host and X-Forwarded-Host must do so: with a trusted proxy on this machine the browser may be here too,
        and a script of another site can write X-Forwarded-Host, but never Host.
        """
        asked = Headers(scope=scope).getlist("host")
        return bool(asked) and all(_is_loopback(name.lower()) for name in (*asked, self.host(scope)))

    def allows_read(self, scope: Scope) -> bool:
        """Return whether a GET comes from a page of this service, or from a user who follows a link to one.

        Else pages of other sites could make a browser send expensive requests, and measure how long they take.
        """
        headers = Headers(scope=scope)
        return headers.get("sec-fetch-site", "none") in _SAME_SITE or headers.get("sec-fetch-mode") == "navigate"

    def allows_form(self, scope: Scope) -> bool:
        """Return whether the headers allow that a POST comes from a page of this service."""
        headers = Headers(scope=scope)
        if headers.get("sec-fetch-site", "none") not in _SAME_SITE:
            return False
        origin = headers.get("origin")
        return origin is None or urlsplit(origin).netloc.lower() == self.host(scope)

    def _forwarded(self, scope: Scope, name: str) -> str:
        if not self.is_from_trusted_proxy(scope):
            return ""
        return ",".join(Headers(scope=scope).getlist(name)).rpartition(",")[2].strip()


def _is_loopback(host: str) -> bool:
    name, _, port = host.rpartition(":")
    return (host if not name or port.endswith("]") else name) in _LOOPBACK_NAMES


def _peer(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


def _lines(scope: Scope) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
