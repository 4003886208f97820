"""`callbacks ops`: the operators' page, on the loopback address."""

import contextlib

import click
import uvicorn

from cli import ports
from cli.command import Command
from ops.app import create_app
from shared import logs, settings


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(0, 65535), help="The port, instead of CALLBACKS_OPS_PORT.")
def ops(port: int | None) -> None:
    """Show what the service is doing, on 127.0.0.1."""
    logs.configure()
    loaded = settings.load(needs=("REDIS_URL",))
    try:
        listening = ports.listen("127.0.0.1", loaded.ops_port if port is None else port)
    except ports.NoPort as exc:
        raise click.UsageError(str(exc)) from exc
    click.echo(f"the operators' page: {ports.shown(listening)}/")
    # It has no password, so it is for this machine alone; from elsewhere, reach it through an SSH tunnel.
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(loaded),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
    )
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
