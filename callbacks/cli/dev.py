"""`callbacks dev`: the whole service with its own Redis, until Ctrl-C; it prints every event as it arrives.

Its data, the token in the URLs and its addresses stay in the folder between runs.
"""

import os
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

import click
import redis

from callbacks.cli import dev_environment, folder_lock, handlers_check, running_dev, termination
from callbacks.cli.activity_feed import ActivityFeed
from callbacks.cli.activity_lines import ActivityLines
from callbacks.cli.command import Command
from callbacks.cli.dev_environment import DevEnvironment
from callbacks.cli.handlers_check import HandlersReport
from callbacks.cli.reloader import Reloader
from callbacks.cli.running_dev import RunningDev
from callbacks.cli.service import ProcessEnded, Service
from shared import connections, queues
from shared.errors import Terminated
from shared.settings import Settings
from workers.activity import WorkerReady
from workers.runtime import pause

_POLL_SECONDS: Final = 0.1
# Workers load their handlers in a second or two.
_READY_SECONDS: Final = 15.0
_REPORT_FILE: Final = "handlers.json"


def _public_url(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter(f"{value!r} is not a URL such as https://example.trycloudflare.com.")
    return value.rstrip("/")


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the web process.  [default: PORT, or 8080]")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=running_dev.DEFAULT_FOLDER,
    show_default=True,
    help="Folder for its files.",
)
@click.option(
    "--public-url",
    metavar="URL",
    callback=_public_url,
    help="Address of a tunnel to the port; it is printed in place of 127.0.0.1.",
)
@click.option("--reload", "reloads", is_flag=True, help="Load the handlers again when their code changes.")
def dev(*, port: int | None, folder: Path, public_url: str | None, reloads: bool) -> None:
    """Run everything on this machine until Ctrl-C: Redis, web process, workers."""
    loaded = dev_environment.load(port=port)
    try:
        with termination.on_signal(), folder_lock.lock(folder, owner="dev"):
            _run(loaded, folder=folder, public_url=public_url, reloads=reloads)
    except Terminated:
        click.echo(f"Stopped. The data stay in {folder}")
        sys.exit(0)


def _run(loaded: Settings, *, folder: Path, public_url: str | None, reloads: bool) -> NoReturn:
    environment = dev_environment.make(loaded, folder)
    for remark in environment.remarks:
        click.echo(remark)
    with Service(
        folder,
        url=environment.url,
        ops_url=environment.ops_url,
        # The compiled form of a file that is saved twice within a second may be that of the first time.
        environment={**environment.variables, **({"PYTHONDONTWRITEBYTECODE": "1"} if reloads else {})},
        quiet=False,
    ) as service:
        handlers = handlers_check.run(service.environment, file=folder / _REPORT_FILE)
        handlers_check.show(handlers)
        if not handlers.is_usable:
            sys.exit(1)
        with connections.connect(service.redis.url) as client, ActivityFeed(service.redis.url) as feed:
            lines = ActivityLines(
                hidden=environment.hidden_handlers,
                masked=loaded.log_numbers == "masked",
                is_paused=lambda name: _is_paused(client, name),
            )
            service.start()
            url_file = folder / "redis-url"
            url_file.touch(mode=0o600)
            url_file.write_text(service.redis.url)
            running = RunningDev(
                service.redis.url, environment.handlers, environment.callbacks_url, loaded.database_url
            )
            running_dev.write(folder, running)
            wait = partial(_wait_for_workers, feed, lines)
            if reloads:  # a file that is saved before would be loaded unchecked
                wait(handlers)
            click.echo(_describe_handlers(handlers, environment))
            print_urls(environment, public_url=public_url, url_file=url_file)
            reloader = Reloader(service, handlers, file=folder / _REPORT_FILE, wait=wait) if reloads else None
            _watch(service, feed, lines, reloader)


def _wait_for_workers(feed: ActivityFeed, lines: ActivityLines, handlers: HandlersReport) -> None:
    """Wait until a worker of each queue is ready, but not forever: the lifespan of a handler may fail."""
    left = {queues.EXPAND, *map(queues.delivery_queue, handlers.names)}
    deadline = time.monotonic() + _READY_SECONDS
    while left and time.monotonic() < deadline:
        for item in feed.read(wait_seconds=_POLL_SECONDS):
            lines.add(item, datetime.now(UTC))
            if isinstance(item, WorkerReady):
                left.discard(item.queue)


def _watch(service: Service, feed: ActivityFeed, lines: ActivityLines, reloader: Reloader | None) -> NoReturn:
    """Print what happens, until a process ends."""
    while True:
        try:
            for item in feed.read(wait_seconds=_POLL_SECONDS):
                lines.add(item, datetime.now(UTC))
        except redis.RedisError:  # the processes say so
            time.sleep(_POLL_SECONDS)
        for line in lines.pop(datetime.now(UTC)):
            click.echo(line)
        try:
            service.check()
        except ProcessEnded as exc:
            # It loaded a file that was saved just before; it is started again when that is corrected.
            if reloader is None or not exc.is_worker:
                raise
            click.echo(str(exc))
        if reloader is not None:
            reloader.reload_if_changed()


def _describe_handlers(handlers: HandlersReport, environment: DevEnvironment) -> str:
    names = [name for name in handlers.names if name not in environment.hidden_handlers]
    own = "" if names != ["log"] else " (CALLBACKS_HANDLERS names yours)"
    return f"Handlers: {', '.join(names)}{own}"


def _is_paused(client: redis.Redis, handler: str) -> bool:
    try:
        return pause.read_state(client, handler) is not None
    except redis.RedisError:
        return False


def print_urls(environment: DevEnvironment, *, public_url: str | None, url_file: Path) -> None:
    """Print where everything is, and what to do next."""
    local = environment.callbacks_url
    base = public_url + urlsplit(local).path if public_url else local
    click.echo("The service is running (Ctrl-C stops it). Give the gateway these URLs with each send request:\n")
    click.echo(f"  callback_url  {base}/status")
    click.echo(f"  reply_url     {base}/reply\n")
    if public_url is None:
        click.echo(
            f"The gateway needs HTTPS: run `cloudflared tunnel --url {environment.url}` or "
            f"`ngrok http {urlsplit(local).port}`, then `callbacks dev --public-url https://…`\n"
        )
    click.echo("Try it from another terminal:\n")
    click.echo(f"  callbacks simulate {local} --destinations 20 --replies 5")
    click.echo(f"  callbacks simulate {local} --sample undelivered\n")
    click.echo(f"The operators' page: {environment.ops_url}/\n")
    if url_file.parent == running_dev.DEFAULT_FOLDER and not dev_environment.is_redis_set():
        click.echo("Commands such as `callbacks audit` find this service if they start in this folder. Elsewhere:\n")
    else:
        click.echo("Commands such as `callbacks audit` need:\n")
    no_file = "REDIS_URL_FILE= " if os.environ.get("REDIS_URL_FILE") else ""
    redis_url = f"REDIS_URL=$(cat {url_file.absolute()})"
    click.echo(f"  export {redis_url} {no_file}CALLBACKS_HANDLERS={environment.handlers}\n")
