"""From where a request comes, and by which way: the address that counts, whether it is HTTPS, and which host it names.

X-Forwarded-For, -Proto and -Host count only from CALLBACKS_TRUSTED_PROXIES, as at the public edge.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from ingest.sources import AddressRules, parse_address
from shared.settings import ANY_NETWORK, Network

_LOOPBACK_NAMES: Final = frozenset(("localhost", "127.0.0.1", "[::1]"))
_SAME_SITE: Final = ("same-origin", "none")
# Whoever has one IPv6 address has at least 2^64 of them.
_IPV6_PREFIX: Final = 64


class RequestOrigin:
    """Judges requests by their connection and headers."""

    def __init__(self, trusted: Iterable[Network]) -> None:
        self._rules = AddressRules(allowed=ANY_NETWORK, trusted=trusted)

    def address(self, scope: Scope) -> str:
        """Name who asks, for counting attempts: an IPv4 address, or the network of an IPv6 one."""
        decision = self._rules.decide(_peer(scope), _lines(scope))
        address = parse_address(decision.label)
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
        return decision.label

    def is_https(self, scope: Scope) -> bool:
        """Tell whether it came by HTTPS, to us or to the proxy."""
        return scope["scheme"] == "https" or self._forwarded(scope, "x-forwarded-proto").lower() == "https"

    def host(self, scope: Scope) -> str:
        """Give the host and port that it asked for."""
        return (self._forwarded(scope, "x-forwarded-host") or Headers(scope=scope).get("host", "")).lower()

    def is_local_host(self, scope: Scope) -> bool:
        """Tell whether it asked for this machine by a name that nobody else can point at it (DNS rebinding).

        Both the Host itself has to be one and what a proxy tells: where a trusted proxy is on this machine, so may the
        browser be, and a script of a site that was pointed at it writes X-Forwarded-Host, but never Host.
        """
        asked = Headers(scope=scope).getlist("host")
        return bool(asked) and all(_is_loopback(name.lower()) for name in (*asked, self.host(scope)))

    def allows_read(self, scope: Scope) -> bool:
        """Tell whether a GET comes from a page of ours, or of somebody who follows a link to one.

        Pages of other sites could else let a browser ask here for what costs much, and measure how long that takes.
        """
        headers = Headers(scope=scope)
        return headers.get("sec-fetch-site", "none") in _SAME_SITE or headers.get("sec-fetch-mode") == "navigate"

    def allows_form(self, scope: Scope) -> bool:
        """Tell whether a POST may come from a page of ours: what browsers say of it does not speak against it."""
        headers = Headers(scope=scope)
        if headers.get("sec-fetch-site", "none") not in _SAME_SITE:
            return False
        origin = headers.get("origin")
        return origin is None or urlsplit(origin).netloc.lower() == self.host(scope)

    def _forwarded(self, scope: Scope, name: str) -> str:
        if not self._rules.trusts(_peer(scope)):
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
