"""`callbacks dead`: events that a handler gave up on; kept for 30 days, as long as there is room, on a shelf for each.

`replay` delivers an event to its own handler again, with all its attempts before it, and to no other.
"""

import click
import msgspec

from callbacks.cli import shelf_options
from callbacks.cli.command import Command
from shared.did_you_mean import did_you_mean
from workers.failures.failure import DeadLetter
from workers.failures.failure_list import Shelf, dead_letters_of
from workers.failures.store import Shelves


@click.group()
def dead() -> None:
    """Events that a handler gave up on: list, show, replay, drop."""


@dead.command("list", cls=Command)
@click.argument("handler", required=False)
@shelf_options.paging
@shelf_options.as_json
def list_letters(*, handler: str | None, first: int, most: int, as_json: bool) -> None:
    """List the dead letters of HANDLER.

    Oldest first; without HANDLER, how many each handler has.
    """
    with shelf_options.opened() as (shelves, _):
        if handler is None:
            _list_handlers(shelves, as_json=as_json)
            return
        _require(shelves, handler)
        for row in shelves.dead(handler, first=first, most=most):
            if as_json:
                click.echo(msgspec.json.encode(row))
            else:
                attempts = f"{row.attempts} attempt{'' if row.attempts == 1 else 's'}"
                click.echo(f"{row.id}  {row.died_at}  {attempts}  {shelf_options.short(row.error)}")
        if not as_json:
            click.echo(f"{shelves.size(dead_letters_of(handler)):,} in all")


def _list_handlers(shelves: Shelves, *, as_json: bool) -> None:
    sizes = {name: shelves.size(dead_letters_of(name)) for name in shelves.handlers()}
    with_some = {name: size for name, size in sizes.items() if size}
    for name, size in with_some.items():
        click.echo(msgspec.json.encode({"handler": name, "dead": size}) if as_json else f"{size:>9,}  {name}")
    if not as_json:
        click.echo("`callbacks dead list NAME` shows them." if with_some else "No dead letters.")


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("event_id", metavar="ID")
@shelf_options.as_json
def show(*, handler: str, event_id: str, as_json: bool) -> None:
    """Show one dead letter.

    That is the event, and what the handler raised.
    """
    with shelf_options.opened() as (shelves, _):
        letter = shelves.dead_letter(handler, event_id)
    if as_json:
        click.echo(_as_json(letter))
        return
    click.echo(f"handler   {letter.handler}\ndied      {letter.died_at}\nattempts  {letter.attempts}")
    click.echo(
        f"error     {shelf_options.short(letter.error)}\n\n{letter.event.to_json()}\n\n{letter.traceback}".rstrip()
    )


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("ids", metavar="[ID]…", nargs=-1)
@shelf_options.every
@shelf_options.as_json
def replay(*, handler: str, ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Deliver dead letters to HANDLER again."""
    shelf_options.require_choice(ids, every=every)
    with shelf_options.opened() as opened:
        shelf = _require(opened.shelves, handler)
        chosen = shelf_options.choose(opened.shelves, shelf, ids)
        shelf_options.do(opened, "replay", shelf, chosen, as_json=as_json)


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("ids", metavar="[ID]…", nargs=-1)
@shelf_options.every
@shelf_options.yes
@shelf_options.as_json
def drop(*, handler: str, ids: tuple[str, ...], every: bool, yes: bool, as_json: bool) -> None:
    """Drop dead letters of HANDLER for good."""
    shelf_options.require_choice(ids, every=every)
    with shelf_options.opened() as opened:
        shelf = _require(opened.shelves, handler)
        chosen = shelf_options.choose(opened.shelves, shelf, ids)
        if not yes:
            question = f"Drop {shelf_options.number_of(chosen):,} dead letters of {handler!r} for good?"
            click.confirm(question, abort=True, err=True)
        shelf_options.do(opened, "drop", shelf, chosen, as_json=as_json)


def _require(shelves: Shelves, handler: str) -> Shelf:
    known = shelves.handlers()
    if handler not in known:
        meant = did_you_mean(handler, known)
        there = ", ".join(known) or "none"
        raise click.UsageError(f"No handler {handler!r} has had an event{meant}; there are: {there}.")
    return dead_letters_of(handler)


def _as_json(letter: DeadLetter) -> bytes:
    return msgspec.json.encode(msgspec.structs.asdict(letter) | {"event": msgspec.Raw(letter.event.to_json().encode())})
