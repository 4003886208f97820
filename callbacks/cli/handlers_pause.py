"""`callbacks handlers pause` and `callbacks handlers resume`."""

import click

from callbacks.cli import handler_argument
from callbacks.cli.command import Command
from callbacks.cli.redis_connection import open_redis
from shared.counted import counted
from workers.admin import handler_catalog, queue_state
from workers.runtime import pause


@click.command("pause", cls=Command)
@handler_argument.name_argument
def pause_handler(*, name: str) -> None:
    """Pause NAME. New events wait in its queue; calls in progress finish."""
    with open_redis() as (loaded, client):
        handler_argument.require_known(handler_catalog.list_entries(loaded.handlers), client, name)
        before = pause.read_state(client, name)
        with handler_argument.record(client, "pause", name):
            pause.pause(client, name)
        waits = queue_state.read_state(client, name)
    what = "was already paused" if handler_argument.is_paused_by_operator(before) else "is paused"
    click.echo(f"{name!r} {what}; {counted(waits.total, 'event')} in its queue; new ones wait there too.")
    click.echo(f"`callbacks handlers resume {name}` resumes it.")


@click.command("resume", cls=Command)
@handler_argument.name_argument
def resume_handler(*, name: str) -> None:
    """Resume NAME: its workers deliver what waits."""
    with open_redis() as (loaded, client):
        handler_argument.require_known(handler_catalog.list_entries(loaded.handlers), client, name)
        with handler_argument.record(client, "resume", name):
            was_paused = pause.resume(client, name)
        waits = queue_state.read_state(client, name)
    what = "is resumed" if was_paused else "was not paused"
    workers = "" if waits.workers or not waits.total else " No worker is running: start `callbacks worker deliver`."
    click.echo(f"{name!r} {what}; {counted(waits.total, 'event')} in its queue.{workers}")
