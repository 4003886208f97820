"""Which addresses may be connected to, and connections to checked addresses only.

The host of a target is resolved once for each connection, the addresses are checked, and the connection is made to the
checked address. So a name cannot resolve to a public address for the check and to a private one for the connection
(DNS rebinding). TLS and the Host header still use the name.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

import httpcore

# Returns the addresses of a host, best first. Raises OSError.
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]

_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# How a network that has IPv6 alone reaches IPv4 (NAT64, RFC 6052): the last 32 bits are the IPv4 address.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_BITS: Final = (1 << 32) - 1
# In public ranges, but they lead to private addresses or nowhere: 6to4 and Teredo contain an IPv4 address,
# 168.63.129.16 is the host of each virtual machine at one cloud provider, 192.0.0.0/24 and 192.88.99.0/24 are reserved
# for protocols, 3fff::/20 is for documentation.
_EXCEPTIONS: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("2002::/16", "2001::/32", "3fff::/20", "168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24")
)


class AddressNotAllowed(Exception):
    """The host has no allowed address; the message names one that is not allowed."""


def is_public(address: str) -> bool:
    """Return whether an address is on the public internet.

    Not public are loopback, private, link-local (cloud metadata), shared (CGNAT), multicast, unspecified and reserved
    addresses, and IPv6 addresses that contain an IPv4 address, but for those of NAT64, which are what that address is.
    Raise ValueError if it is not an IP address.
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed in _NAT64:
        parsed = ipaddress.IPv4Address(int(parsed) & _IPV4_BITS)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed not in _GLOBAL_UNICAST:
        return False
    return parsed.is_global and not parsed.is_multicast and not any(parsed in network for network in _EXCEPTIONS)


async def resolve_host(host: str, port: int) -> list[str]:
    """Return the addresses of a host, as the system resolves it. Raise OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def warm_up() -> None:
    """Import what the first connection needs (about 20 ms), so that the first event does not wait for it."""
    await resolve_host("127.0.0.1", 0)
    await httpcore.AnyIOBackend().sleep(0)


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects as httpcore does, but only to checked addresses."""

    def __init__(
        self,
        *,
        allow_private: bool,
        resolve: Resolve = resolve_host,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._resolve = resolve
        self._network = network or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 # httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first allowed address that accepts, within `timeout` seconds in all.

        Raise AddressNotAllowed, httpcore.ConnectError or httpcore.ConnectTimeout.
        """
        loop = asyncio.get_running_loop()
        ends = None if timeout is None else loop.time() + timeout
        addresses = await self._allowed_addresses(host, port, timeout)
        for position, address in enumerate(addresses):
            # Each address gets an equal share of the time that is left.
            share = None if ends is None else max(ends - loop.time(), 0) / (len(addresses) - position)
            try:
                return await self._network.connect_tcp(
                    address, port, timeout=share, local_address=local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if position == len(addresses) - 1:
                    raise
        raise httpcore.ConnectError(f"{host} has no address")

    async def _allowed_addresses(self, host: str, port: int, seconds: float | None) -> list[str]:
        try:
            async with asyncio.timeout(seconds):
                addresses = await self._resolve(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from None
        except (OSError, UnicodeError) as exc:
            raise httpcore.ConnectError(f"{host} cannot be resolved") from exc
        allowed = [address for address in addresses if self._allow_private or is_public(address)]
        if addresses and not allowed:
            raise AddressNotAllowed(f"{host} is at {addresses[0]}, which is not a public address")
        return allowed
