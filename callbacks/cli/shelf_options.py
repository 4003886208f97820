"""What `callbacks quarantine` and `callbacks dead` have in common: choosing entries, and telling what was done."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar

import click
import msgspec

from callbacks.cli.connected import connected
from workers.admin import action_log as trail
from workers.admin.action_log import Deed, Trail
from workers.admin.bulk_action import Task
from workers.failures.failure_list import Shelf
from workers.failures.store import Chosen, Shelves, Standing

Function = TypeVar("Function", bound=Callable[..., Any])

_SHOWN_CHARACTERS: Final = 100
# Fewer are done before anybody wonders.
_LONG: Final = 1000

as_json: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON: one object a line.")
every: Final = click.option("--all", "every", is_flag=True, help="All of them that are there now.")
yes: Final = click.option("--yes", is_flag=True, help="Do not ask.")


def paging(function: Function) -> Function:
    """Give a command the options `--skip` and `--limit`."""
    function = click.option("--limit", "most", type=click.IntRange(1), default=50, show_default=True, help="At most.")(
        function
    )
    return click.option(
        "--skip", "first", type=click.IntRange(0), default=0, show_default=True, help="Entries to pass over."
    )(function)


class Opened(NamedTuple):
    """The shelves, and the trail of what is done with them."""

    shelves: Shelves
    trail: Trail


@contextmanager
def opened() -> Iterator[Opened]:
    """Give the shelves in the Redis of the settings; an error of Redis ends the command with 1."""
    with connected() as (_, client):
        yield Opened(Shelves(client), Trail(client))


def require_choice(ids: Iterable[str], *, every: bool) -> None:
    """Refuse a command that names no entry, or both some and all."""
    if bool(tuple(ids)) == every:
        raise click.UsageError("Name the entries, or say --all.")


def choose(shelves: Shelves, shelf: Shelf, ids: tuple[str, ...]) -> Chosen:
    """Give what was chosen on a shelf: the ids named, or all that stands there now."""
    return ids or shelves.standing(shelf)


def number_of(chosen: Chosen) -> int:
    """Count what was chosen."""
    return chosen.size if isinstance(chosen, Standing) else len(chosen)


def do(opened: Opened, task: Task, shelf: Shelf, chosen: Chosen, *, as_json: bool) -> None:
    """Replay or drop what was chosen, then say with how many entries it was done; exit 1 if it could not be with one.

    Each part is whole in itself: after a Ctrl-C the same command goes on with what is left.
    """
    parts = opened.shelves.replay(shelf, chosen) if task == "replay" else opened.shelves.drop(shelf, chosen)
    size = number_of(chosen)
    words = "all" if isinstance(chosen, Standing) else trail.by_id(size)
    deed = Deed(who=trail.command_line_user(), by="command", what=task, where=shelf.name, chosen=words, number=size)
    with opened.trail.noted(deed) as tally:
        try:
            with click.progressbar(
                length=size, file=sys.stderr, hidden=size < _LONG or not sys.stderr.isatty(), show_pos=True
            ) as bar:
                for part in parts:
                    for entry_id, why in part.failed:
                        error = {"id": entry_id, "error": str(why)}
                        click.echo(msgspec.json.encode(error) if as_json else f"{entry_id}: {why}", err=not as_json)
                    tally.done, tally.failed = tally.done + part.done, tally.failed + len(part.failed)
                    bar.update(part.done + len(part.failed))
        except KeyboardInterrupt:
            tally.is_stopped = True
    done = {"replay": "replayed", "drop": "dropped"}[task]
    if as_json:
        click.echo(msgspec.json.encode({done: tally.done, "failed": tally.failed, "interrupted": tally.is_stopped}))
    else:
        click.echo(f"{done}: {tally.done:,}" + (f"; could not: {tally.failed:,}" if tally.failed else ""))
    if tally.is_stopped:
        raise click.Abort
    sys.exit(1 if tally.failed else 0)


def printable(text: str) -> str:
    """Give all of `text` on one line, harmless to a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def short(text: str) -> str:
    """Give a line's worth of `text`, harmless to a terminal."""
    line = printable(text)
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…"
