"""`callbacks dead`: events that a handler gave up on; kept for 30 days, one shelf for each handler.

`replay` delivers an event to its own handler again, with all its attempts before it, and to no other.
"""

from collections.abc import Callable
from functools import partial

import click
import msgspec

from cli import shelf
from cli.command import Command
from workers.set_aside import DeadLetter, SetAside


@click.group()
def dead() -> None:
    """Events that a handler gave up on: list, show, replay, drop."""


@dead.command("list", cls=Command)
@click.argument("handler", required=False)
@shelf.paging
@shelf.as_json
def list_letters(*, handler: str | None, first: int, most: int, as_json: bool) -> None:
    """List the dead letters of HANDLER, oldest first; without it, how many each handler has."""
    with shelf.opened() as aside:
        sizes = aside.dead_sizes()
        if handler is None:
            for name, size in sizes.items():
                click.echo(msgspec.json.encode({"handler": name, "dead": size}) if as_json else f"{size:>9,}  {name}")
            return
        _require(aside, handler)
        for letter in aside.dead(handler, first=first, most=most):
            if as_json:
                click.echo(_as_json(letter))
            else:
                about = f"{letter.attempts} attempts  {shelf.short(letter.error)}"
                click.echo(f"{letter.id}  {letter.died_at}  {letter.event.kind}  {about}")
        if not as_json:
            click.echo(f"{sizes.get(handler, 0):,} in all")


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("event_id", metavar="ID")
@shelf.as_json
def show(*, handler: str, event_id: str, as_json: bool) -> None:
    """Show one dead letter: the event, and what the handler raised."""
    with shelf.opened() as aside:
        letter = aside.dead_letter(handler, event_id)
    if as_json:
        click.echo(_as_json(letter))
        return
    click.echo(f"handler   {letter.handler}\ndied      {letter.died_at}\nattempts  {letter.attempts}")
    click.echo(f"error     {shelf.short(letter.error)}\n\n{letter.event.to_json()}\n\n{letter.traceback}".rstrip())


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("ids", metavar="[ID]…", nargs=-1)
@shelf.every
def replay(*, handler: str, ids: tuple[str, ...], every: bool) -> None:
    """Deliver dead letters to HANDLER again."""
    shelf.require_choice(ids, every=every)
    with shelf.opened() as aside:
        _require(aside, handler)
        chosen = ids or aside.dead_ids(handler)
        shelf.do_each(chosen, partial(_act, aside.deliver_again, aside, handler), done="on their way again")


@dead.command(cls=Command)
@click.argument("handler")
@click.argument("ids", metavar="[ID]…", nargs=-1)
@shelf.every
@shelf.yes
def drop(*, handler: str, ids: tuple[str, ...], every: bool, yes: bool) -> None:
    """Drop dead letters of HANDLER for good."""
    shelf.require_choice(ids, every=every)
    with shelf.opened() as aside:
        _require(aside, handler)
        chosen = ids or aside.dead_ids(handler)
        if not yes:
            click.confirm(f"Drop {len(chosen):,} dead letters of {handler!r} for good?", abort=True)
        shelf.do_each(chosen, partial(_act, aside.drop_dead, aside, handler), done="dropped")


def _require(aside: SetAside, handler: str) -> None:
    known = aside.handlers()
    if handler not in known:
        raise click.UsageError(f"No handler {handler!r} has had an event; there are: {', '.join(known) or 'none'}.")


def _act(action: Callable[[DeadLetter], None], aside: SetAside, handler: str, event_id: str) -> None:
    action(aside.dead_letter(handler, event_id))


def _as_json(letter: DeadLetter) -> bytes:
    fields = {name: getattr(letter, name) for name in letter.__struct_fields__}
    fields["event"] = msgspec.Raw(letter.event.to_json().encode())
    return msgspec.json.encode(fields)
