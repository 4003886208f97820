"""Ports: finding a free one, and listening on one before the server is started."""

import errno
import random
import socket
from pathlib import Path
from typing import Final

from shared.errors import CallbacksError

BACKLOG: Final = 2048
# Below those that systems give to outgoing connections (from 32,768 on Linux, 49,152 elsewhere): between our choice
# and the child's bind() passes a second or more, in which any client could be given a port from up there.
_FREE_PORTS: Final = range(28_000, 32_768)
_TRIES: Final = 200


class NoPort(CallbacksError):
    """The process cannot listen on this address. `is_in_use`: another process does, perhaps one of this service."""

    def __init__(self, problem: str, *, is_in_use: bool = False) -> None:
        self.is_in_use = is_in_use
        super().__init__(problem)


def free_port() -> int:
    """Return a port of 127.0.0.1 that no process listens on now. Raise NoPort."""
    for port in random.sample(_FREE_PORTS, _TRIES):
        try:
            listen("127.0.0.1", port).close()
        except NoPort:
            continue
        return port
    raise NoPort(f"no free port found between {_FREE_PORTS.start} and {_FREE_PORTS.stop}: end what listens there")


def kept_port(file: Path) -> int:
    """Return the port in `file` if no process listens on it, otherwise a free one, written to `file`. Raise NoPort."""
    try:
        port = int(file.read_text())
        listen("127.0.0.1", port).close()
    except (OSError, ValueError, OverflowError, NoPort):
        port = free_port()
        file.write_text(f"{port}\n")
    return port


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the first address of `host`. Raise NoPort."""
    listening = bind(host, port)
    try:
        listening.listen(BACKLOG)
    except OSError as exc:
        listening.close()
        raise _no_port(host, port, exc) from exc
    return listening


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that has the first address of `host`, and accepts nothing yet. Raise NoPort."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as exc:  # a name that is too long, or empty between two dots
        raise _no_port(host, port, exc) from exc
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as exc:
        listening.close()
        raise _no_port(host, port, exc) from exc
    return listening


def _no_port(host: str, port: int, exc: OSError | UnicodeError) -> NoPort:
    words = exc.strerror if isinstance(exc, OSError) else None
    return NoPort(
        f"cannot listen on {host} port {port}: {words or exc}",
        is_in_use=isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE,
    )


def format_url(listening: socket.socket) -> str:
    """Return the address of a socket as a URL."""
    return _format_url(*listening.getsockname()[:2])


def reachable_url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches what listens on `host`, also on all addresses of the machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 # compared, not bound
    return _format_url(host, port)


def local_url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server that will listen there. Raise NoPort."""
    with listen(host, port) as listening:
        return reachable_url(*listening.getsockname()[:2])


def _format_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
