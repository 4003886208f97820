"""`callbacks quarantine`: authentic callbacks that could not be read; kept raw for 30 days, as long as there is room.

`replay` sends one the way of every callback, so one that was delivered meanwhile comes out as a duplicate.
"""

import click
import msgspec

from callbacks.cli import shelf_options
from callbacks.cli.command import Command
from workers.failures.failure_list import QUARANTINE


@click.group()
def quarantine() -> None:
    """Callbacks that could not be read: list, show, replay, drop."""


@quarantine.command("list", cls=Command)
@shelf_options.paging
@shelf_options.as_json
def list_entries(*, first: int, most: int, as_json: bool) -> None:
    """List the quarantine, oldest first."""
    with shelf_options.opened() as (shelves, _):
        for row in shelves.quarantine(first=first, most=most):
            if as_json:
                click.echo(msgspec.json.encode(row))
            else:
                error = shelf_options.short(row.error)
                click.echo(f"{row.id}  {row.received_at}  {row.source}  {row.kind or '?':<6}  {error}")
        if not as_json:
            click.echo(f"{shelves.size(QUARANTINE):,} in all")


@quarantine.command(cls=Command)
@click.argument("entry_id", metavar="ID")
@shelf_options.as_json
def show(*, entry_id: str, as_json: bool) -> None:
    """Show one callback.

    That is what is wrong with it, and its body as received.
    """
    with shelf_options.opened() as (shelves, _):
        entry = shelves.quarantined(entry_id)
    if as_json:
        # A body need not be text; what is not shows as U+FFFD here, and whole without --json.
        fields = msgspec.structs.asdict(entry) | {"body": entry.body.decode(errors="replace")}
        click.echo(msgspec.json.encode(fields))
        return
    click.echo(f"received  {entry.received_at}\nsource    {entry.source}\nkind      {entry.kind or 'unknown'}")
    click.echo(f"records   {entry.records}\nerror     {shelf_options.short(entry.error)}\n")
    if entry.traceback:
        click.echo(f"{entry.traceback}\n")
    click.echo(entry.body)


@quarantine.command(cls=Command)
@click.argument("ids", metavar="[ID]…", nargs=-1)
@shelf_options.every
@shelf_options.as_json
def replay(*, ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Send callbacks their normal way again. One that still cannot be read stays."""
    shelf_options.require_choice(ids, every=every)
    with shelf_options.opened() as opened:
        chosen = shelf_options.choose(opened.shelves, QUARANTINE, ids)
        shelf_options.do(opened, "replay", QUARANTINE, chosen, as_json=as_json)


@quarantine.command(cls=Command)
@click.argument("ids", metavar="[ID]…", nargs=-1)
@shelf_options.every
@shelf_options.yes
@shelf_options.as_json
def drop(*, ids: tuple[str, ...], every: bool, yes: bool, as_json: bool) -> None:
    """Drop callbacks for good."""
    shelf_options.require_choice(ids, every=every)
    with shelf_options.opened() as opened:
        chosen = shelf_options.choose(opened.shelves, QUARANTINE, ids)
        if not yes:
            click.confirm(f"Drop {shelf_options.number_of(chosen):,} callbacks for good?", abort=True, err=True)
        shelf_options.do(opened, "drop", QUARANTINE, chosen, as_json=as_json)
