"""`callbacks optouts`: the numbers that want no further messages, as the handler `optout` keeps them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, Final

import click
import msgspec

from callbacks.cli import message_history, optouts_lines
from callbacks.cli.age import Age
from callbacks.cli.command import EXIT_USAGE, Command, Group
from callbacks.cli.numbers_option import numbers_option
from callbacks.cli.terminal_text import short
from shared.counted import counted
from shared.csv_text import csv_line
from workers.admin.message_forms import Numbers, shown_number
from workers.handlers.optout import forgotten, wish_table
from workers.handlers.optout.number_wishes import NumberWish
from workers.handlers.sql.errors import DatabaseUnavailable

_FIELDS: Final = NumberWish.__struct_fields__


@click.group(cls=Group)
def optouts() -> None:
    """List, check, import or export the numbers that opted out of further messages."""


@optouts.command("list", cls=Command)
@click.option("--since", type=Age(), help="Only those since then: 90s, 30m, 2h, 7d, or 2026-01-31T18:00 in UTC.")
@click.option("--all", "select_all", is_flag=True, help="Also numbers that have opted in again.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="List at most this many.")
@numbers_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
def list_optouts(*, since: datetime | None, select_all: bool, limit: int, numbers: Numbers, as_json: bool) -> None:
    """List the numbers that opted out.

    The latest first; for each since when, its source, channel and keyword.
    """
    with message_history.open_connection(handler="optout") as connection:
        opted_out = None if select_all else True
        for wish in wish_table.iterate(connection, since=since, opted_out=opted_out, limit=limit):
            click.echo(msgspec.json.encode(_fields(wish, numbers)) if as_json else _as_line(_masked(wish, numbers)))
        if not as_json:
            click.echo(f"{counted(wish_table.count_opted_out(connection), 'number')} opted out in total")


@optouts.command(cls=Command)
@click.argument("number")
@numbers_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(*, number: str, numbers: Numbers, as_json: bool) -> None:
    """Say whether NUMBER may be written to.

    In any spelling, with its country code. Exit 0: it may be written to. 1: it opted out. 2: nobody can say, as the
    database cannot be read or NUMBER is not a phone number.
    """
    if problem := optouts_lines.number_problem(number):
        raise click.UsageError(f"{problem}.")
    with _exit_2_if_unreadable(), message_history.open_connection(handler="optout") as connection:
        try:
            wish = wish_table.find(connection, number, secret=forgotten.read_secret(os.environ))
        except forgotten.UnknownKey as exc:
            raise click.ClickException(str(exc)) from exc
    opted_out = wish is not None and wish.opted_out
    shown_text = shown_number(number, numbers)
    if as_json:
        known = dict.fromkeys(_FIELDS) if wish is None else _fields(wish, numbers)
        click.echo(msgspec.json.encode({**known, "number": shown_text, "opted_out": opted_out}))
    elif wish is None:
        click.echo(f"{shown_text} may be written to: it has not opted out")
    else:
        said = f"opted {'out' if opted_out else 'in again'}{_since(wish)} ({short(wish.source)})"
        click.echo(f"{shown_text} {said}" if opted_out else f"{shown_text} may be written to: it {said}")
    sys.exit(1 if opted_out else 0)


@optouts.command("import", cls=Command)
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--source", default="import", show_default=True, help="The source of lines that name none.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def import_optouts(*, file: BinaryIO, source: str, as_json: bool) -> None:
    """Add numbers that opted out elsewhere.

    From FILE or from standard input: JSON lines or CSV as `export` writes them, or a number on each line. Only `number`
    is needed; `opted_out` is true unless it says false; `changed_at` is when. The later wish of a number counts, so
    another import of the same changes nothing. A line without a time changes only numbers of which nothing is known
    with a time. If a line is wrong, nothing is imported.
    """
    try:
        read = optouts_lines.read_lines(file.read(), source=source)
    except optouts_lines.WrongLines as exc:
        for problem in optouts_lines.shown_problems(exc.problems):
            click.echo(problem, err=True)
        raise click.ClickException("Nothing was imported. Correct the lines and import all of them again.") from exc
    wishes = [wish for wish in read if wish.number]
    skipped = len(read) - len(wishes)
    try:
        with wish_table.open_for_writing(message_history.database_address()) as connection:
            changed = wish_table.write(connection, wishes, secret=forgotten.read_secret(os.environ))
    except DatabaseUnavailable as exc:
        raise click.ClickException(f"Nothing was imported. {exc}") from exc
    if as_json:
        numbers = {"read": len(read), "changed": changed}
        click.echo(msgspec.json.encode({**numbers, "skipped": skipped} if skipped else numbers))
    else:
        skipped_text = f"; skipped: {counted(skipped, 'forgotten number')}" if skipped else ""
        click.echo(f"read: {len(read):,}; changed: {counted(changed, 'number')}{skipped_text}")


@optouts.command(cls=Command)
@numbers_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header line.")
def export(*, numbers: Numbers, as_csv: bool) -> None:
    """Print all as JSON lines or CSV.

    Also the numbers that opted in again. What `--numbers full` prints can be imported again.
    """
    if as_csv:
        click.echo(csv_line(_FIELDS), nl=False)
    with message_history.open_connection(handler="optout") as connection:
        for wish in wish_table.iterate(connection):
            if as_csv:
                shown = _masked(wish, numbers)
                click.echo(
                    csv_line(
                        [shown.number or optouts_lines.FORGOTTEN, *(getattr(shown, name) for name in _FIELDS[1:])]
                    ),
                    nl=False,
                )
            else:
                click.echo(msgspec.json.encode(_fields(wish, numbers)))


class _CannotSay(click.ClickException):
    """The table cannot be read, so nobody can say whether a number opted out."""

    exit_code = EXIT_USAGE


@contextmanager
def _exit_2_if_unreadable() -> Iterator[None]:
    try:
        yield
    except click.ClickException as exc:
        raise _CannotSay(exc.message) from exc


def _masked(wish: NumberWish, numbers: Numbers) -> NumberWish:
    return msgspec.structs.replace(
        wish, number=shown_number(wish.number, numbers), recipient=shown_number(wish.recipient, numbers)
    )


def _fields(wish: NumberWish, numbers: Numbers) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(message_history.to_json(_masked(wish, numbers)))
    return found if wish.number else {**found, optouts_lines.FORGOTTEN: True}


def _as_line(wish: NumberWish) -> str:
    way = "out" if wish.opted_out else "in"
    texts = (wish.number or optouts_lines.FORGOTTEN, wish.source, wish.channel or "-", wish.keyword or "-")
    return f"{message_history.format_time(wish.changed_at)}  {way:3}  {'  '.join(map(short, texts))}"


def _since(wish: NumberWish) -> str:
    return "" if wish.changed_at is None else f" on {message_history.format_time(wish.changed_at).strip()}"
