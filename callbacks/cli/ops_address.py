"""The address of the operators' page: without a password no other machine may reach it; with one it needs HTTPS."""

import ipaddress
import socket
from typing import Final

from callbacks.cli import ports
from callbacks.ops.access.sign_in_settings import is_sign_in_required
from shared.errors import ConfigurationError
from shared.settings import Settings


def bind(host: str, port: int, loaded: Settings) -> socket.socket:
    """Return a socket that has the address. Raise ports.NoPort, and ConfigurationError if others could reach it."""
    bound = ports.bind(host, port)
    if not is_sign_in_required(loaded) and not _is_loopback(bound.getsockname()[0]):
        bound.close()
        raise ConfigurationError(
            [
                f"CALLBACKS_OPS_PASSWORD is not set, and other machines can reach {host}, where events are shown. "
                "Set it, or listen on 127.0.0.1"
            ]
        )
    return bound


def plain_http_problem(loaded: Settings, host: str) -> str:
    """Return what is wrong if the password and what the pages show can be read on the network; "" if nothing is known.

    A trusted proxy is taken to be the one that adds HTTPS. A `host` that cannot be found is reported by `bind`.
    """
    has_secret = loaded.ops_password or loaded.ops_read_password or loaded.ops_tokens
    if not has_secret or loaded.trusted_proxies:
        return ""
    try:
        address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4][0]
    except (OSError, UnicodeError):
        return ""
    if _is_loopback(str(address)):
        return ""
    return (
        f"CALLBACKS_OPS_HOST: the operators' page on {host} is plain HTTP, "
        "so others on the network can read the password"
    )


PLAIN_HTTP_REMEDY: Final = (
    "Put a proxy with HTTPS in front and name it in CALLBACKS_TRUSTED_PROXIES, or listen on 127.0.0.1 and use a tunnel."
)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
