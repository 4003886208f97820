"""`callbacks ops`: the operators' page, on the loopback address."""

import click
import uvicorn

from ops.app import create_app
from shared import logs, settings


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="The port, instead of CALLBACKS_OPS_PORT.")
def ops(port: int | None) -> None:
    """Show what the service is doing, on 127.0.0.1."""
    logs.configure()
    loaded = settings.load(needs=("REDIS_URL",))
    port = loaded.ops_port if port is None else port
    click.echo(f"the operators' page: http://127.0.0.1:{port}/")
    # It has no password yet, so it is for this machine alone; elsewhere, reach it through an SSH tunnel.
    uvicorn.run(
        create_app(loaded),
        host="127.0.0.1",
        port=port,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
