"""Which addresses may be connected to, and connecting to one that was looked at and to no other.

A target's host is resolved once for each connection, the answer is looked at, and the connection is made to the
address itself, so that a name cannot be public when it is looked at and private when it is connected to. TLS and the
Host header know nothing of this: they keep the name.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

import httpcore

# Gives the addresses of a host, best first. Raises OSError.
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]

_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# Public by their range, and yet a way to what is not, or to nowhere: 6to4 and Teredo carry an IPv4 address inside,
# 168.63.129.16 is every virtual machine's host at one cloud, 192.0.0.0/24 and 192.88.99.0/24 are protocols' own,
# 3fff::/20 is for examples.
_EXCEPTIONS: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("2002::/16", "2001::/32", "3fff::/20", "168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24")
)


class AddressNotAllowed(Exception):
    """The host has no address that may be connected to; the message names one that may not."""


def is_public(address: str) -> bool:
    """Tell whether an address is one of the public internet: not loopback, private, link-local (where clouds keep
    their metadata), shared (CGNAT), multicast, unspecified or reserved, nor IPv6 with an IPv4 address in it.
    """  # noqa: D205
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed not in _GLOBAL_UNICAST:
        return False
    return parsed.is_global and not parsed.is_multicast and not any(parsed in network for network in _EXCEPTIONS)


async def resolve_host(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a host."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def warm_up() -> None:
    """Load what the first connection would load while an event waits for it, some 20 ms."""
    await resolve_host("127.0.0.1", 0)
    await httpcore.AnyIOBackend().sleep(0)


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects as httpcore does, to addresses that were looked at."""

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
        """Connect to the first address that answers, all of them within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        ends = None if timeout is None else loop.time() + timeout
        addresses = await self._allowed_addresses(host, port, timeout)
        for position, address in enumerate(addresses):
            # None may use up the time of those behind it.
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
