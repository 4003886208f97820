"""`callbacks ops`: the operators' page. Without a password it is on the loopback address alone."""

import ipaddress
import socket

import click
import uvicorn

from callbacks.cli import ports, termination
from callbacks.cli.command import Command
from callbacks.ops.app import create_app
from callbacks.ops.pages.event_streams import EventStreams
from ingest.protocol import HttpProtocol
from shared import logs, settings, unknown_settings
from shared.errors import ConfigurationError


@click.command(cls=Command)
@click.option("--host", help="The address to listen on, instead of CALLBACKS_OPS_HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port, instead of CALLBACKS_OPS_PORT.")
def ops(host: str | None, port: int | None) -> None:
    """Show what the service is doing, on a page of its own.

    It is on 127.0.0.1 unless --host says otherwise, and then only with CALLBACKS_OPS_PASSWORD. From elsewhere reach it
    through an SSH tunnel, or put a proxy with HTTPS before it.
    """
    logs.configure()
    unknown_settings.log_warnings()
    loaded = settings.load(needs=("REDIS_URL",))
    host = loaded.ops_host if host is None else host
    try:
        listening = ports.listen(host, loaded.ops_port if port is None else port)
    except ports.NoPort as exc:
        raise click.UsageError(str(exc)) from exc
    if not loaded.ops_password and not _is_loopback(listening):
        listening.close()
        raise ConfigurationError(
            [
                f"CALLBACKS_OPS_PASSWORD is not set, and others can reach {host}, where events are shown. "
                "Set it, or listen on 127.0.0.1"
            ]
        )
    click.echo(f"the operators' page: {ports.format_url(listening)}/")
    app = create_app(loaded)
    server = _Server(
        uvicorn.Config(
            app,
            # Strangers reach the port also where a password is asked for.
            http=_Protocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        ),
        app.state.streams,
    )
    termination.exit_zero_on_signal()
    server.run(sockets=[listening])


class _Protocol(HttpProtocol):
    """The public edge's, with patience for who downloads 4 MiB, the largest body, over a phone: some 300 kbit/s."""

    max_unread_checks = 8


class _Server(uvicorn.Server):
    """uvicorn's server, which would wait for streams that have no end."""

    def __init__(self, config: uvicorn.Config, streams: EventStreams) -> None:
        super().__init__(config)
        self._streams = streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then stop."""
        self._streams.close()
        await super().shutdown(sockets)


def _is_loopback(listening: socket.socket) -> bool:
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback
