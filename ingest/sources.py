"""Where a callback comes from: address rules and tokens, the only two proofs of origin that the gateway offers.

The address is that of the connection. X-Forwarded-For is believed only from a trusted proxy, and is read from the
right, where the trusted proxies have written. Nothing that a stranger sends is cached.
"""

import functools
import hmac
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from shared.setting_values import ANY_NETWORK, Network, Token
from shared.token_mask import token_mask

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# The gateway has one address and a proxy a few. Other addresses only displace each other.
_CACHED_PEERS: Final = 1024
# The longest address is "[" + 39 characters + "%" + a zone of up to 15 + "]:65535".
_MAX_ENTRY_CHARACTERS: Final = 64
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_HIGHEST_PORT: Final = 65535
# The most proxies in a row that are read. If every address is trusted, a header of 64 KiB would take 86 ms.
_MAX_PROXIES: Final = 32


@dataclass(frozen=True, slots=True)
class AddressDecision:
    """Whether a request may post, and how to name its address in messages."""

    allowed: bool
    label: str


@dataclass(frozen=True, slots=True)
class _Peer:
    decision: AddressDecision
    trusted: bool


class AddressRules:
    """Decides which addresses may post callbacks (CALLBACKS_ALLOWED_IPS, CALLBACKS_TRUSTED_PROXIES)."""

    def __init__(self, *, allowed: Iterable[Network], trusted: Iterable[Network]) -> None:
        allowed = tuple(allowed)
        self._any = set(ANY_NETWORK) <= set(allowed)
        self._allowed = tuple(map(_unmapped_network, allowed))
        self._trusted = tuple(map(_unmapped_network, trusted))
        self._peer = functools.lru_cache(maxsize=_CACHED_PEERS)(self._decide_peer)

    def decide(self, peer: str | None, forwarded: Sequence[bytes] = ()) -> AddressDecision:
        """Decide for a request from `peer` (None: a Unix socket, without address), with its X-Forwarded-For lines."""
        if peer is None:
            return AddressDecision(self._any, "a connection without an address")
        found = self._peer(peer)
        if found.trusted and forwarded:
            return self._decide_forwarded(b",".join(forwarded).decode("latin-1"))
        return found.decision

    def trusts(self, peer: str | None) -> bool:
        """Return whether `peer` is a trusted proxy, whose headers about the origin of a request are believed."""
        return peer is not None and self._peer(peer).trusted

    def _decide_peer(self, peer: str) -> _Peer:
        address = parse_address(peer)
        if address is None:
            return _Peer(AddressDecision(self._any, "a connection without an address"), trusted=False)
        return _Peer(self._decide_address(address), trusted=_within(address, self._trusted))

    def _decide_address(self, address: Address) -> AddressDecision:
        return AddressDecision(_within(address, self._allowed), str(address))

    def _decide_forwarded(self, line: str) -> AddressDecision:
        decision = AddressDecision(allowed=False, label="")
        for entry in reversed(line.rsplit(",", _MAX_PROXIES)):
            address = parse_address(entry)
            if address is None:
                return AddressDecision(allowed=False, label="an unreadable entry of X-Forwarded-For")
            decision = self._decide_address(address)
            if not _within(address, self._trusted):
                return decision
        return decision  # all are trusted, so it is that of the leftmost


def parse_address(entry: str) -> Address | None:
    """Return the address that `entry` names, with or without a port ("1.2.3.4:5", "[::1]:80"); None if it names none.

    An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) becomes the IPv4 address.
    """
    text = entry.strip(" \t")
    if len(text) > _MAX_ENTRY_CHARACTERS or not text.isascii():
        return None
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in text or (port and not _is_port(port.removeprefix(":"), has_colon=port[0] == ":")):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(port):
            return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_port(text: str, *, has_colon: bool = True) -> bool:
    return has_colon and text.isdecimal() and len(text) <= len(str(_HIGHEST_PORT)) and int(text) <= _HIGHEST_PORT


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _unmapped_network(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        start = network.network_address.ipv4_mapped
        return ipaddress.ip_network((str(start), network.prefixlen - 96))
    return network


class Tokens:
    """The tokens of the callback URLs (CALLBACKS_TOKENS), and the sources that they identify."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        tokens = tuple(tokens)
        self._tokens = tuple((token.name, token.secret.encode()) for token in tokens)
        self.mask: Final = token_mask(token.secret for token in tokens)

    def source(self, given: str) -> str | None:
        """Return the source that the token `given` identifies, or None. All tokens are compared in constant time."""
        offered = given.encode("utf-8", "surrogatepass")
        found = None
        for name, secret in self._tokens:
            if hmac.compare_digest(offered, secret):
                found = name
        return found
