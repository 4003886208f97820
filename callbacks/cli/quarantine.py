"""`callbacks quarantine`: authentic callbacks that could not be read; kept raw for 30 days, as long as there is room.

`replay` sends one the way of every callback, so one that was delivered meanwhile comes out as a duplicate.
"""

import click
import msgspec

from callbacks.cli import failure_options
from callbacks.cli.command import Command
from workers.failures.failure_list import QUARANTINE


@click.group()
def quarantine() -> None:
    """Callbacks that could not be read: list, show, replay, drop."""


@quarantine.command("list", cls=Command)
@failure_options.paging_options
@failure_options.json_option
def list_callbacks(*, skip: int, limit: int, as_json: bool) -> None:
    """List the quarantine, oldest first."""
    with failure_options.open_failures() as (store, _):
        for row in store.list_quarantine(skip=skip, limit=limit):
            if as_json:
                click.echo(msgspec.json.encode(row))
            else:
                error = failure_options.short(row.error)
                click.echo(f"{row.id}  {row.received_at}  {row.source}  {row.kind or '?':<6}  {error}")
        if not as_json:
            click.echo(f"{store.count(QUARANTINE):,} in all")


@quarantine.command(cls=Command)
@click.argument("entry_id", metavar="ID")
@failure_options.json_option
def show(*, failure_id: str, as_json: bool) -> None:
    """Show one callback.

    That is what is wrong with it, and its body as received.
    """
    with failure_options.open_failures() as (store, _):
        callback = store.read_quarantined(failure_id)
    if as_json:
        # A body need not be text; what is not shows as U+FFFD here, and whole without --json.
        fields = msgspec.structs.asdict(callback) | {"body": callback.body.decode(errors="replace")}
        click.echo(msgspec.json.encode(fields))
        return
    click.echo(f"received  {callback.received_at}\nsource    {callback.source}\nkind      {callback.kind or 'unknown'}")
    click.echo(f"records   {callback.records}\nerror     {failure_options.short(callback.error)}\n")
    if callback.traceback:
        click.echo(f"{callback.traceback}\n")
    click.echo(callback.body)


@quarantine.command(cls=Command)
@click.argument("ids", metavar="[ID]…", nargs=-1)
@failure_options.all_option
@failure_options.json_option
def replay(*, ids: tuple[str, ...], select_all: bool, as_json: bool) -> None:
    """Send callbacks their normal way again. One that still cannot be read stays."""
    failure_options.require_selection(ids, select_all=select_all)
    with failure_options.open_failures() as failures:
        selection = failure_options.select(failures.store, QUARANTINE, ids)
        failure_options.run_on(failures, "replay", QUARANTINE, selection, as_json=as_json)


@quarantine.command(cls=Command)
@click.argument("ids", metavar="[ID]…", nargs=-1)
@failure_options.all_option
@failure_options.yes_option
@failure_options.json_option
def drop(*, ids: tuple[str, ...], select_all: bool, yes: bool, as_json: bool) -> None:
    """Drop callbacks for good."""
    failure_options.require_selection(ids, select_all=select_all)
    with failure_options.open_failures() as failures:
        selection = failure_options.select(failures.store, QUARANTINE, ids)
        if not yes:
            click.confirm(
                f"Drop {failure_options.selection_size(selection):,} callbacks for good?", abort=True, err=True
            )
        failure_options.run_on(failures, "drop", QUARANTINE, selection, as_json=as_json)
