"""`callbacks web`: serves the public edge, in this process or in several that share its port.

Exit 0: drained after SIGTERM or Ctrl-C. 2: the configuration is wrong, or the address cannot be had.
"""

import math
import signal
import socket
import sys
from types import FrameType
from typing import Final

import click
import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from ingest.app import create_app
from shared import logs, settings
from shared.errors import ConfigurationError

_WRONG_USAGE: Final = 2
_BACKLOG: Final = 2048
# Proxies keep idle connections for 60 s (nginx, the load balancers of the large clouds). Whoever closes first wins a
# race against a request on its way, so it must not be us.
_KEEP_ALIVE_SECONDS: Final = 75
# What a request can take when it has begun: its body (CALLBACKS_BODY_TIMEOUT_SECONDS, 10), a connection to Redis
# (3), a commit (5), and 2 to spare. 20 s by default, of the 30 that Kubernetes and Heroku give from SIGTERM to
# SIGKILL. A process without requests stops at once.
_COMMIT_SECONDS: Final = 3 + 5 + 2


@click.command()
@click.option("--host", help="The address to listen on, instead of HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port, instead of PORT; 0 takes a free one.")
def web(host: str | None, port: int | None) -> None:
    """Receive the gateway's callbacks."""
    logs.configure()
    try:
        config = settings.load(needs=("REDIS_URL", "CALLBACKS_TOKENS"))
    except ConfigurationError as exc:
        click.echo(str(exc), err=True)
        sys.exit(_WRONG_USAGE)
    host = config.host if host is None else host
    port = config.port if port is None else port
    try:
        listening = _listen(host, port)
    except OSError as exc:
        click.echo(f"cannot listen on {host} port {port}: {exc.strerror or exc}", err=True)
        sys.exit(_WRONG_USAGE)
    server = uvicorn.Config(
        "cli.web:app",
        factory=True,
        workers=config.web_concurrency,
        http="httptools",
        ws="none",
        lifespan="on",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(config.body_timeout_seconds) + _COMMIT_SECONDS,
    )
    click.echo(f"listening on {_shown(listening)}")
    if config.web_concurrency > 1:
        _Processes(server, sockets=[listening]).run()
        return
    # uvicorn drains on a signal, then raises that signal again for whoever handled it before: us, with exit code 0.
    for handled in (signal.SIGTERM, signal.SIGINT):
        signal.signal(handled, _leave)
    uvicorn.Server(server).run(sockets=[listening])


class _Processes(Multiprocess):
    """uvicorn's supervisor, which would keep the port open while its processes drain: callers would wait in vain."""

    def terminate_all(self) -> None:
        """Stop listening here too, then ask every process to end."""
        for listening in self.sockets:
            listening.close()
        super().terminate_all()


def app() -> Starlette:
    """Make the application in a process that uvicorn started, which has yet to learn how to log."""
    logs.configure()
    return create_app()


def _listen(host: str, port: int) -> socket.socket:
    """Listen on the first address that `host` means. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _shown(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
