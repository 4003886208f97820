"""`callbacks web`: receives callbacks, in this process or in several that share its port.

Exit 0: stopped by SIGTERM or Ctrl-C, with every request answered. 2: the configuration is wrong, or the address cannot
be used.
"""

import contextlib
import functools
import math
import socket
from collections.abc import Iterator
from typing import Final

import click
import uvicorn
from starlette.applications import Starlette

from callbacks.cli import ports, termination
from callbacks.cli.command import Command
from callbacks.cli.live_server import LiveServer
from callbacks.cli.start_lines import print_address
from callbacks.cli.web_processes import WebProcesses
from ingest.app import create_app
from ingest.prometheus.families import WebCollector
from ingest.prometheus.server import MetricsServer
from ingest.prometheus.snapshots import Snapshots
from ingest.protocol import HttpProtocol
from shared import logs, settings, unknown_settings
from shared.background import Background
from shared.liveness import Liveness
from shared.settings import Settings

# Proxies keep idle connections for 60 s (nginx, the load balancers of the large clouds). We must not close first: a
# request may be on its way.
_KEEP_ALIVE_SECONDS: Final = 75
# How long a request may take once its body (CALLBACKS_BODY_TIMEOUT_SECONDS, 10) has arrived: a connection to Redis (3),
# a commit (5), and 2 to spare. Together 20 s by default, of the 30 that Kubernetes and Heroku allow between SIGTERM and
# SIGKILL. A process without requests stops at once.
_COMMIT_SECONDS: Final = 3 + 5 + 2


@click.command(cls=Command)
@click.option("--host", help="The address to listen on, instead of HOST.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The port to listen on, instead of PORT; 0 takes a free one."
)
def web(host: str | None, port: int | None) -> None:
    """Receive the gateway's callbacks."""
    logs.configure()
    unknown_settings.log_warnings()
    config = settings.load(process="web", needs=("REDIS_URL", "CALLBACKS_TOKENS"))
    liveness = Liveness.from_environment(config.heartbeat_file)
    with contextlib.ExitStack() as on_failure:
        try:
            metrics = None
            if config.metrics_port is not None:
                metrics = on_failure.enter_context(ports.listen(config.metrics_host, config.metrics_port))
            listening = ports.listen(config.host if host is None else host, config.port if port is None else port)
        except ports.NoPort as exc:
            raise click.UsageError(str(exc)) from exc
        on_failure.pop_all()
    with _own_metrics(metrics, config) as snapshots_to:
        server = uvicorn.Config(
            functools.partial(app, snapshots_to),
            factory=True,
            workers=config.web_concurrency,
            http=HttpProtocol,
            ws="none",
            lifespan="on",
            interface="asgi3",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_config=None,
            backlog=ports.BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=math.ceil(config.body_timeout_seconds) + _COMMIT_SECONDS,
        )
        url = ports.format_url(listening)
        print_address(url, text=f"listening on {url}", what="callbacks")
        if metrics is not None:
            url = f"{ports.format_url(metrics)}/metrics"
            print_address(url, text=f"metrics: {url}", what="metrics")
        if config.web_concurrency > 1:
            WebProcesses(server, sockets=[listening], liveness=liveness).run()
            return
        termination.exit_zero_on_signal()
        LiveServer(server, liveness).run(sockets=[listening])


@contextlib.contextmanager
def _own_metrics(listening: socket.socket | None, config: Settings) -> Iterator[socket.socket | None]:
    """Serve /metrics on `listening`, and yield the socket to which the web processes send snapshots (None: neither)."""
    if listening is None:
        yield None
        return
    background = Background()
    snapshots = Snapshots(background)
    server = MetricsServer(listening, WebCollector(snapshots, config).exposition, background=background)
    snapshots.start()
    server.start()
    try:
        yield snapshots.channel
    finally:
        server.close()
        snapshots.close()


def app(snapshots_to: socket.socket | None = None) -> Starlette:
    """Return the application, after setting up the log of this process, which uvicorn started."""
    logs.configure()
    return create_app(snapshots_to=snapshots_to)
