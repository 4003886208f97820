"""Ports: free ones, and sockets that listen before a server is started on them."""

import socket
from typing import Final

from shared.errors import CallbacksError

BACKLOG: Final = 2048


class NoPort(CallbacksError):
    """The address cannot be listened on."""


def free_port() -> int:
    """Give a port of 127.0.0.1 that nobody listens on now."""
    with listen("127.0.0.1", 0) as probe:
        return int(probe.getsockname()[1])


def listen(host: str, port: int) -> socket.socket:
    """Listen on the first address that `host` means. Raises NoPort."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise NoPort(f"cannot listen on {host} port {port}: {exc.strerror or exc}") from exc
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as exc:
        listening.close()
        raise NoPort(f"cannot listen on {host} port {port}: {exc.strerror or exc}") from exc
    return listening


def shown(listening: socket.socket) -> str:
    """Give the address as a URL."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
