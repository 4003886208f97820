"""`callbacks handlers purge`: discard the events that wait for a handler."""

import sys
from typing import Final

import click
import msgspec

from callbacks.cli import failure_options, handler_argument
from callbacks.cli.command import Command
from callbacks.cli.redis_connection import open_redis
from shared.counted import counted
from workers.admin import handler_catalog, queue_state
from workers.admin.purge import Purger
from workers.runtime import pause
from workers.runtime.journal_folder import JournalFolder

# Fewer are discarded before a progress bar would help.
_PROGRESS_BAR_MIN: Final = 1000


@click.command(cls=Command)
@handler_argument.name_argument
@failure_options.yes_option
@failure_options.json_option
def purge(*, name: str, yes: bool, as_json: bool) -> None:
    """Discard the events that wait for NAME, permanently.

    First pause it, or remove it from CALLBACKS_HANDLERS. Discarded events count as dropped. Its dead letters stay; drop
    them with `callbacks dead drop`.
    """
    with open_redis() as (loaded, client):
        found = handler_catalog.list_entries(loaded.handlers)
        handler_argument.require_known(found, client, name)
        pause_state = pause.read_state(client, name)
        if handler_argument.is_named(found, name) and not handler_argument.is_paused_by_operator(pause_state):
            raise click.UsageError(f"{name!r} is named in CALLBACKS_HANDLERS: first `callbacks handlers pause {name}`.")
        purger = Purger(client, name, journals=JournalFolder.from_run_dir(loaded.run_dir))
        purger.prepare()
        before = queue_state.read_state(client, name)
        if not yes and before.total:
            click.confirm(
                f"Discard {counted(before.total, 'event')} waiting for {name!r} permanently?",
                abort=True,
                err=True,
            )
        unreadable, why = 0, ""
        with (
            handler_argument.record(client, "purge", name, number=before.total) as progress,
            click.progressbar(
                length=before.total,
                file=sys.stderr,
                hidden=before.total < _PROGRESS_BAR_MIN or not sys.stderr.isatty(),
                show_pos=True,
            ) as bar,
        ):
            for part in purger.run():
                progress.done, unreadable = progress.done + part.events, unreadable + part.unreadable
                why = why or part.unreadable_why
                bar.update(part.events)
        left = queue_state.read_state(client, name)
    if as_json:
        click.echo(msgspec.json.encode({"dropped": progress.done, "unreadable_jobs": unreadable, "left": left.total}))
    else:
        click.echo(f"dropped: {progress.done:,}" + (f"; left: {left.total:,}" if left.total else ""))
        if unreadable:
            click.echo(f"{counted(unreadable, 'job')} left that cannot be read; the first: {why}", err=True)
    sys.exit(1 if unreadable else 0)
