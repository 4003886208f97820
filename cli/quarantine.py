"""`callbacks quarantine`: authentic callbacks that could not be read; kept raw for 30 days.

`replay` sends one the way of every callback, so one that was delivered meanwhile comes out as a duplicate.
"""

import click
import msgspec

from cli import shelf
from cli.command import Command
from workers.set_aside import QuarantineEntry


@click.group()
def quarantine() -> None:
    """Callbacks that could not be read: list, show, replay, drop."""


@quarantine.command("list", cls=Command)
@shelf.paging
@shelf.as_json
def list_entries(*, first: int, most: int, as_json: bool) -> None:
    """List the quarantine, oldest first."""
    with shelf.opened() as aside:
        for entry in aside.quarantine(first=first, most=most):
            if as_json:
                click.echo(msgspec.json.encode(_as_json(entry, body=False)))
            else:
                click.echo(f"{entry.id}  {entry.received_at}  {entry.source}  {entry.kind or '?':<6}  {_error(entry)}")
        if not as_json:
            click.echo(f"{aside.quarantine_size():,} in all")


@quarantine.command(cls=Command)
@click.argument("entry_id", metavar="ID")
@shelf.as_json
def show(*, entry_id: str, as_json: bool) -> None:
    """Show one callback: what is wrong with it, and its body as received."""
    with shelf.opened() as aside:
        entry = aside.quarantined(entry_id)
    if as_json:
        click.echo(msgspec.json.encode(_as_json(entry, body=True)))
        return
    click.echo(f"received  {entry.received_at}\nsource    {entry.source}\nkind      {entry.kind or 'unknown'}")
    click.echo(f"records   {entry.records}\nerror     {_error(entry)}\n")
    click.echo(entry.body)


@quarantine.command(cls=Command)
@click.argument("ids", metavar="[ID]…", nargs=-1)
@shelf.every
def replay(*, ids: tuple[str, ...], every: bool) -> None:
    """Let callbacks in again, the normal way. One that still cannot be read stays."""
    shelf.require_choice(ids, every=every)
    with shelf.opened() as aside:
        chosen = ids or aside.quarantine_ids()
        shelf.do_each(chosen, lambda name: aside.let_in(aside.quarantined(name)), done="on their way again")


@quarantine.command(cls=Command)
@click.argument("ids", metavar="[ID]…", nargs=-1)
@shelf.every
@shelf.yes
def drop(*, ids: tuple[str, ...], every: bool, yes: bool) -> None:
    """Drop callbacks for good."""
    shelf.require_choice(ids, every=every)
    with shelf.opened() as aside:
        chosen = ids or aside.quarantine_ids()
        if not yes:
            click.confirm(f"Drop {len(chosen):,} callbacks for good?", abort=True)
        shelf.do_each(chosen, lambda name: aside.drop_quarantined(aside.quarantined(name)), done="dropped")


def _error(entry: QuarantineEntry) -> str:
    return shelf.short(entry.error)


def _as_json(entry: QuarantineEntry, *, body: bool) -> dict[str, object]:
    fields = msgspec.structs.asdict(entry)
    raw = fields.pop("body")
    # A body need not be text; what is not shows as U+FFFD here, and whole without --json.
    return fields | ({"body": raw.decode(errors="replace")} if body else {})
