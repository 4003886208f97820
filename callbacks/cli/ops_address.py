"""The address of the operators' page: without a password no other machine may reach it."""

import ipaddress
import socket

from callbacks.cli import ports
from shared.errors import ConfigurationError


def bind(host: str, port: int, *, password: str) -> socket.socket:
    """Return a socket that has the address. Raise ports.NoPort, and ConfigurationError if others could reach it."""
    bound = ports.bind(host, port)
    if not password and not _is_loopback(bound):
        bound.close()
        raise ConfigurationError(
            [
                f"CALLBACKS_OPS_PASSWORD is not set, and other machines can reach {host}, where events are shown. "
                "Set it, or listen on 127.0.0.1"
            ]
        )
    return bound


def _is_loopback(bound: socket.socket) -> bool:
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback
