"""What `callbacks quarantine` and `callbacks dead` have in common: choosing entries, and telling what was done."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click
import redis

from shared import connections, settings
from shared.errors import CallbacksError
from workers.set_aside import SetAside

Function = TypeVar("Function", bound=Callable[..., Any])

_SHOWN_CHARACTERS: Final = 100

as_json: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON: one object a line.")
every: Final = click.option("--all", "every", is_flag=True, help="All of them.")
yes: Final = click.option("--yes", is_flag=True, help="Do not ask.")


def paging(function: Function) -> Function:
    """Give a command the options `--skip` and `--limit`."""
    function = click.option("--limit", "most", type=click.IntRange(1), default=50, show_default=True, help="At most.")(
        function
    )
    return click.option(
        "--skip", "first", type=click.IntRange(0), default=0, show_default=True, help="Entries to pass over."
    )(function)


@contextmanager
def opened() -> Iterator[SetAside]:
    """Give what was set aside in the Redis of the settings; an error of Redis ends the command with 1."""
    loaded = settings.load(needs=("REDIS_URL",))
    client = connections.connect(loaded.redis_url)
    try:
        yield SetAside(client)
    except redis.RedisError as exc:
        raise click.ClickException(f"{connections.shown(loaded.redis_url)} cannot be used: {exc}") from exc
    finally:
        client.close()


def require_choice(ids: Iterable[str], *, every: bool) -> None:
    """Refuse a command that names no entry, or both some and all."""
    if bool(tuple(ids)) == every:
        raise click.UsageError("Name the entries, or say --all.")


def do_each(ids: Iterable[str], action: Callable[[str], None], *, done: str) -> None:
    """Do `action` with each entry and say how many it was; exit 1 if one could not."""
    number, failed = 0, 0
    for entry_id in ids:
        try:
            action(entry_id)
        except CallbacksError as exc:
            failed += 1
            click.echo(f"{entry_id}: {exc}", err=True)
        else:
            number += 1
    click.echo(f"{done}: {number:,}" + (f"; could not: {failed:,}" if failed else ""))
    sys.exit(1 if failed else 0)


def short(text: str) -> str:
    """Give a line's worth of `text`, harmless to a terminal."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…"
