"""`callbacks dev`: the whole service with its own Redis, until Ctrl-C; it prints every event as it arrives.

Its data, the token in the URLs and its addresses stay in the folder between runs. Of the settings, it sets only what
belongs to this machine and this folder; all others are as the user set them.
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

import click
import msgspec

from callbacks.cli import check, folder_lock, kept_secret, ports, running_dev, termination
from callbacks.cli.command import Command
from callbacks.cli.event_line import format_event
from callbacks.cli.running_dev import RunningDev
from callbacks.cli.service import Service
from shared import settings
from workers import registry

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
    loaded = settings.load()
    loaded = replace(loaded, handlers=tuple(dict.fromkeys(("log", *loaded.handlers))))
    registry.load(loaded.handlers)
    # Without Redis, which is not started yet.
    for finding in check.find_handlers_problems(replace(loaded, redis_url="")):
        if finding.state != "ok":
            check.show(finding)
    port = port or loaded.port
    try:
        ports.listen("127.0.0.1", port).close()
        with termination.on_signal(), folder_lock.lock(folder, owner="dev"):
            _run(loaded, port=port, folder=folder, public_url=public_url)
    except termination.Terminated:
        click.echo(f"Stopped. The data stay in {folder}")
        sys.exit(0)


def _run(loaded: settings.Settings, *, port: int, folder: Path, public_url: str | None) -> NoReturn:
    token = kept_secret.read(folder / "token")
    log_file = (folder / "events.jsonl").resolve()
    log_file.touch()
    ops_port = _ops_port(loaded, folder)
    handlers = ",".join(loaded.handlers)
    environment = {
        "HOST": "127.0.0.1",
        "CALLBACKS_OPS_HOST": "127.0.0.1",
        "CALLBACKS_TOKENS": f"dev={token}",
        "CALLBACKS_ALLOWED_IPS": _allowed_ips(),
        "CALLBACKS_HANDLERS": handlers,
        "CALLBACKS_LOG_FILE": str(log_file),
        "CALLBACKS_SPOOL_DIR": str(folder / "spool"),
        "CALLBACKS_RUN_DIR": str(folder / "run"),
        "CALLBACKS_LOG_LEVEL": os.environ.get("CALLBACKS_LOG_LEVEL") or "WARNING",
        "CALLBACKS_DURABILITY": os.environ.get("CALLBACKS_DURABILITY") or "fsync",
    }
    with (
        log_file.open(encoding="utf-8") as lines,
        Service(folder, port=port, environment=environment, quiet=False, ops_port=ops_port) as service,
    ):
        lines.seek(0, os.SEEK_END)
        url_file = folder / "redis-url"
        url_file.touch(mode=0o600)
        url_file.write_text(service.redis.url)
        local_url = f"http://127.0.0.1:{port}/callbacks/{token}"
        running = running_dev.RunningDev(service.redis.url, handlers, local_url)
        running_dev.write(folder, running)
        _print_urls(running, public_url=public_url, ops_port=ops_port, url_file=url_file)
        while True:
            for line in _read_new_lines(lines):
                click.echo(format_event(msgspec.json.decode(line)))
            service.check()
            time.sleep(_POLL_SECONDS)


def _ops_port(loaded: settings.Settings, folder: Path) -> int:
    if os.environ.get("CALLBACKS_OPS_PORT") and loaded.ops_port:
        ports.listen("127.0.0.1", loaded.ops_port).close()
        return loaded.ops_port
    return ports.kept_port(folder / "ops-port")


def _allowed_ips() -> str:
    return ",".join(filter(None, (os.environ.get("CALLBACKS_ALLOWED_IPS"), "127.0.0.1", "::1")))


def _print_urls(running: RunningDev, *, public_url: str | None, ops_port: int, url_file: Path) -> None:
    local = running.callbacks_url
    base = public_url + urlsplit(local).path if public_url else local
    click.echo("The service is running (Ctrl-C stops it). Give the gateway these URLs with each send request:\n")
    click.echo(f"  callback_url  {base}/status")
    click.echo(f"  reply_url     {base}/reply\n")
    click.echo("Try it from another terminal:\n")
    click.echo(f"  callbacks simulate {local} --destinations 20 --replies 5\n")
    click.echo(f"The operators' page: http://127.0.0.1:{ops_port}/\n")
    if url_file.parent == running_dev.DEFAULT_FOLDER:
        click.echo("Commands such as `callbacks audit` find this service if they start in this folder. Elsewhere:\n")
    else:
        click.echo("Commands such as `callbacks audit` need:\n")
    click.echo(f"  export REDIS_URL=$(cat {url_file.absolute()}) CALLBACKS_HANDLERS={running.handlers}\n")


def _read_new_lines(lines: TextIOWrapper) -> Iterator[str]:
    """Yield the complete lines that were written since the last call."""
    while True:
        position = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(position)
            return
        yield line
