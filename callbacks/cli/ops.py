"""`callbacks ops`: the operators' pages. Without a password they listen on the loopback address only."""

import socket

import click
import uvicorn

from callbacks.cli import ops_address, ports, termination
from callbacks.cli.command import Command
from callbacks.cli.live_server import LiveServer
from callbacks.cli.start_lines import print_address
from callbacks.ops.app import create_app
from callbacks.ops.pages.event_streams import EventStreams
from ingest.protocol import HttpProtocol
from shared import logs, settings, unknown_settings
from shared.liveness import Liveness
from shared.structured_log import get_logger

log = get_logger("callbacks.ops")


@click.command(cls=Command)
@click.option("--host", help="The address to listen on, instead of CALLBACKS_OPS_HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port, instead of CALLBACKS_OPS_PORT.")
def ops(host: str | None, port: int | None) -> None:
    """Serve web pages that show the state of the service.

    They listen on 127.0.0.1. Another --host needs CALLBACKS_OPS_PASSWORD. To reach them from elsewhere, use an SSH
    tunnel or a proxy with HTTPS.
    """
    logs.configure()
    unknown_settings.log_warnings()
    loaded = settings.load(process="ops", needs=("REDIS_URL",))
    host = loaded.ops_host if host is None else host
    app = create_app(loaded)
    try:
        listening = ops_address.bind(host, loaded.ops_port if port is None else port, loaded)
        listening.listen(ports.BACKLOG)
    except ports.NoPort as exc:
        raise click.UsageError(str(exc)) from exc
    problem = ops_address.plain_http_problem(loaded, host)
    if problem:
        log.warning("ops_plain_http", problem=problem, remedy=ops_address.PLAIN_HTTP_REMEDY)
    url = f"{ports.format_url(listening)}/"
    print_address(url, text=f"the operators' page: {url}", what="operators' page")
    server = _Server(
        uvicorn.Config(
            app,
            # Anybody can reach the port, also with a password set.
            http=_Protocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        ),
        app.state.streams,
        Liveness.from_environment(loaded.heartbeat_file),
    )
    termination.exit_zero_on_signal()
    server.run(sockets=[listening])


class _Protocol(HttpProtocol):
    """The web process's protocol, patient enough to download 4 MiB, the largest body, at 300 kbit/s."""

    max_unread_checks = 8


class _Server(LiveServer):
    """uvicorn's server, which would otherwise wait for endless streams."""

    def __init__(self, config: uvicorn.Config, streams: EventStreams, liveness: Liveness) -> None:
        super().__init__(config, liveness)
        self._streams = streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the streams, then stop."""
        self._streams.close()
        await super().shutdown(sockets)
