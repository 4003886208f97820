"""`callbacks dev`: the whole service with its own Redis, until Ctrl-C; it prints every event as it arrives.

Its data, the token in the URLs and its addresses stay in the folder between runs.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

import click
import msgspec

from callbacks.cli import dev_environment, folder_lock, handlers_check, running_dev, termination
from callbacks.cli.command import Command
from callbacks.cli.dev_environment import DevEnvironment
from callbacks.cli.event_line import format_event
from callbacks.cli.running_dev import RunningDev
from callbacks.cli.service import Service
from shared.settings import Settings

_POLL_SECONDS: Final = 0.1


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
def dev(*, port: int | None, folder: Path, public_url: str | None) -> None:
    """Run everything on this machine until Ctrl-C: Redis, web process, workers."""
    loaded = dev_environment.load(port=port)
    try:
        with termination.on_signal(), folder_lock.lock(folder, owner="dev"):
            _run(loaded, folder=folder, public_url=public_url)
    except termination.Terminated:
        click.echo(f"Stopped. The data stay in {folder}")
        sys.exit(0)


def _run(loaded: Settings, *, folder: Path, public_url: str | None) -> NoReturn:
    environment = dev_environment.make(loaded, folder)
    for remark in environment.remarks:
        click.echo(remark)
    log_file = Path(environment.variables["CALLBACKS_LOG_FILE"])
    log_file.touch()

    def check_handlers(variables: Mapping[str, str]) -> None:
        report = handlers_check.run(variables, file=folder / "handlers.json")
        handlers_check.show(report)
        if not report.is_usable:
            sys.exit(1)

    service = Service(
        folder,
        url=environment.url,
        ops_url=environment.ops_url,
        environment=environment.variables,
        quiet=False,
        prepare=check_handlers,
    )
    with log_file.open(encoding="utf-8") as lines, service:
        lines.seek(0, os.SEEK_END)
        url_file = folder / "redis-url"
        url_file.touch(mode=0o600)
        url_file.write_text(service.redis.url)
        running = RunningDev(service.redis.url, environment.handlers, environment.callbacks_url)
        running_dev.write(folder, running)
        print_urls(environment, public_url=public_url, url_file=url_file)
        while True:
            for line in _read_new_lines(lines):
                click.echo(format_event(msgspec.json.decode(line)))
            service.check()
            time.sleep(_POLL_SECONDS)


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
    click.echo(f"  callbacks simulate {local} --destinations 20 --replies 5\n")
    click.echo(f"The operators' page: {environment.ops_url}/\n")
    if url_file.parent == running_dev.DEFAULT_FOLDER and not dev_environment.is_redis_set():
        click.echo("Commands such as `callbacks audit` find this service if they start in this folder. Elsewhere:\n")
    else:
        click.echo("Commands such as `callbacks audit` need:\n")
    no_file = "REDIS_URL_FILE= " if os.environ.get("REDIS_URL_FILE") else ""
    redis_url = f"REDIS_URL=$(cat {url_file.absolute()})"
    click.echo(f"  export {redis_url} {no_file}CALLBACKS_HANDLERS={environment.handlers}\n")


def _read_new_lines(lines: TextIOWrapper) -> Iterator[str]:
    """Yield the complete lines that were written since the last call."""
    while True:
        position = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(position)
            return
        yield line
