"""`callbacks dev`: the whole service with its own Redis, until Ctrl-C; it prints every event as it arrives.

Its data and the token in the URLs stay in the folder between runs.
"""

import os
import secrets
import sys
import time
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Final, NoReturn

import click
import msgspec

from callbacks.cli import folder_lock, ports, termination
from callbacks.cli.command import Command
from callbacks.cli.event_line import format_event
from callbacks.cli.service import Service
from shared import settings
from workers import registry

_POLL_SECONDS: Final = 0.1


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the web process.  [default: PORT, or 8080]")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("var/dev"),
    show_default=True,
    help="Folder for its files.",
)
def dev(*, port: int | None, folder: Path) -> None:
    """Run everything on this machine until Ctrl-C: Redis, web process, workers."""
    loaded = settings.load()
    registry.load(loaded.handlers)
    port = port or loaded.port
    try:
        ports.listen("127.0.0.1", port).close()
        with termination.on_signal(), folder_lock.lock(folder, owner="dev"):
            _run(loaded, port=port, folder=folder)
    except termination.Terminated:
        click.echo(f"Stopped. The data stay in {folder}")
        sys.exit(0)


def _run(loaded: settings.Settings, *, port: int, folder: Path) -> NoReturn:
    token = _token(folder / "token")
    log_file = (folder / "events.jsonl").resolve()
    log_file.touch()
    ops_port = ports.free_port()
    handlers = ",".join(dict.fromkeys(("log", *loaded.handlers)))
    environment = {
        "HOST": "127.0.0.1",
        "CALLBACKS_OPS_HOST": "127.0.0.1",
        "CALLBACKS_TOKENS": f"dev={token}",
        "CALLBACKS_ALLOWED_IPS": "127.0.0.1,::1",
        "CALLBACKS_HANDLERS": handlers,
        "CALLBACKS_LOG_FILE": str(log_file),
        "CALLBACKS_SPOOL_DIR": str(folder / "spool"),
        "CALLBACKS_RUN_DIR": str(folder / "run"),
        "CALLBACKS_LOG_LEVEL": "WARNING",
        "CALLBACKS_DURABILITY": "fsync",
    }
    with (
        log_file.open(encoding="utf-8") as lines,
        Service(folder, port=port, environment=environment, quiet=False, ops_port=ops_port) as service,
    ):
        lines.seek(0, os.SEEK_END)
        url_file = folder / "redis-url"
        url_file.touch(mode=0o600)
        url_file.write_text(service.redis.url)
        _print_urls(
            f"http://127.0.0.1:{port}/callbacks/{token}", ops_port=ops_port, url_file=url_file, handlers=handlers
        )
        while True:
            for line in _read_new_lines(lines):
                click.echo(format_event(msgspec.json.decode(line)))
            service.check()
            time.sleep(_POLL_SECONDS)


def _token(file: Path) -> str:
    """Return the token of this folder; the first run creates it, readable only by its owner."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(24))
    return file.read_text().strip()


def _print_urls(base: str, *, ops_port: int, url_file: Path, handlers: str) -> None:
    click.echo("The service is running (Ctrl-C stops it). Give the gateway these URLs with each send request:\n")
    click.echo(f"  callback_url  {base}/status")
    click.echo(f"  reply_url     {base}/reply\n")
    click.echo("Try it from another terminal:\n")
    click.echo(f"  callbacks simulate {base} --destinations 20 --replies 5\n")
    click.echo(f"The operators' page: http://127.0.0.1:{ops_port}/   Commands such as `callbacks audit` need:\n")
    click.echo(f"  export REDIS_URL=$(cat {url_file}) CALLBACKS_HANDLERS={handlers}\n")


def _read_new_lines(lines: TextIOWrapper) -> Iterator[str]:
    """Yield the complete lines that were written since the last call."""
    while True:
        position = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(position)
            return
        yield line
