"""`callbacks dead`: events that a handler gave up on; kept for 30 days, as long as there is room, on a shelf for each.

`replay` delivers an event to its own handler again, with all its attempts before it, and to no other.
"""

import click
import msgspec

from cli import shelf
from cli.command import Command
from workers.entries import DeadLetter
from workers.set_aside import Shelves
from workers.shelf import Shelf
from workers.shelf import dead as shelf_of


@click.group()
def dead() -> None:
    """Events that a handler gave up on: list, show, replay, drop."""


@dead.command("list", cls=Command)
@click.argument("handler", required=False)
@shelf.paging
@shelf.as_json
def list_letters(*, handler: str | None, first: int, most: int, as_json: bool) -> None:
    """List the dead letters of HANDLER, oldest first; without it, how many each handler has."""
    with shelf.opened() as shelves:
        if handler is None:
            _list_handlers(shelves, as_json=as_json)
            return
        _require(shelves, handler)
        for row in shelves.dead(handler, first=first, most=most):
            if as_json:
                click.echo(msgspec.json.encode(row))
            else:
                click.echo(f"{row.id}  {row.died_at}  {row.attempts} attempts  {shelf.short(row.error)}")
        if not as_json:
            click.echo(f"{shelves.size(shelf_of(handler)):,} in all")


def _list_handlers(shelves: Shelves, *, as_json: bool) -> None:
    for name in shelves.handlers():
        size = shelves.size(shelf_of(name))
        if size:
            click.echo(msgspec.json.encode({"handler": name, "dead": size}) if as_json else f"{size:>9,}  {name}")


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("event_id", metavar="ID")
@shelf.as_json
def show(*, handler: str, event_id: str, as_json: bool) -> None:
    """Show one dead letter: the event, and what the handler raised."""
    with shelf.opened() as shelves:
        letter = shelves.dead_letter(handler, event_id)
    if as_json:
        click.echo(_as_json(letter))
        return
    click.echo(f"handler   {letter.handler}\ndied      {letter.died_at}\nattempts  {letter.attempts}")
    click.echo(f"error     {shelf.short(letter.error)}\n\n{letter.event.to_json()}\n\n{letter.traceback}".rstrip())


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("ids", metavar="[ID]…", nargs=-1)
@shelf.every
@shelf.as_json
def replay(*, handler: str, ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Deliver dead letters to HANDLER again."""
    shelf.require_choice(ids, every=every)
    with shelf.opened() as shelves:
        its = _require(shelves, handler)
        chosen = shelf.choose(shelves, its, ids)
        shelf.do(shelves.replay(its, chosen), chosen, done="replayed", as_json=as_json)


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("ids", metavar="[ID]…", nargs=-1)
@shelf.every
@shelf.yes
@shelf.as_json
def drop(*, handler: str, ids: tuple[str, ...], every: bool, yes: bool, as_json: bool) -> None:
    """Drop dead letters of HANDLER for good."""
    shelf.require_choice(ids, every=every)
    with shelf.opened() as shelves:
        its = _require(shelves, handler)
        chosen = shelf.choose(shelves, its, ids)
        if not yes:
            question = f"Drop {shelf.number_of(chosen):,} dead letters of {handler!r} for good?"
            click.confirm(question, abort=True, err=True)
        shelf.do(shelves.drop(its, chosen), chosen, done="dropped", as_json=as_json)


def _require(shelves: Shelves, handler: str) -> Shelf:
    known = shelves.handlers()
    if handler not in known:
        raise click.UsageError(f"No handler {handler!r} has had an event; there are: {', '.join(known) or 'none'}.")
    return shelf_of(handler)


def _as_json(letter: DeadLetter) -> bytes:
    return msgspec.json.encode(msgspec.structs.asdict(letter) | {"event": msgspec.Raw(letter.event.to_json().encode())})
