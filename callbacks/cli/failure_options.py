"""What `callbacks quarantine` and `callbacks dead` have in common: choosing entries, and telling what was done."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar

import click
import msgspec

from callbacks.cli.redis_connection import open_redis
from workers.admin import action_log
from workers.admin.action_log import Action, ActionLog
from workers.admin.bulk_action import Task
from workers.failures.failure_list import FailureList
from workers.failures.store import FailureStore, ListSnapshot, Selection

Function = TypeVar("Function", bound=Callable[..., Any])

_MAX_CHARACTERS: Final = 100
# Fewer are done before anybody wonders.
_PROGRESS_BAR_MIN: Final = 1000

json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON: one object a line.")
all_option: Final = click.option("--all", "select_all", is_flag=True, help="All of them that are there now.")
yes_option: Final = click.option("--yes", is_flag=True, help="Do not ask.")


def paging_options(function: Function) -> Function:
    """Give a command the options `--skip` and `--limit`."""
    function = click.option("--limit", "limit", type=click.IntRange(1), default=50, show_default=True, help="At most.")(
        function
    )
    return click.option(
        "--skip", "skip", type=click.IntRange(0), default=0, show_default=True, help="Entries to pass over."
    )(function)


class OpenFailures(NamedTuple):
    """The shelves, and the trail of what is done with them."""

    store: FailureStore
    action_log: ActionLog


@contextmanager
def open_failures() -> Iterator[OpenFailures]:
    """Give the shelves in the Redis of the settings; an error of Redis ends the command with 1."""
    with open_redis() as (_, client):
        yield OpenFailures(FailureStore(client), ActionLog(client))


def require_selection(ids: Iterable[str], *, select_all: bool) -> None:
    """Refuse a command that names no entry, or both some and all."""
    if bool(tuple(ids)) == select_all:
        raise click.UsageError("Name the entries, or say --all.")


def select(store: FailureStore, failure_list: FailureList, ids: tuple[str, ...]) -> Selection:
    """Give what was chosen on a shelf: the ids named, or all that stands there now."""
    return ids or store.snapshot(failure_list)


def selection_size(selection: Selection) -> int:
    """Count what was chosen."""
    return selection.size if isinstance(selection, ListSnapshot) else len(selection)


def run_on(
    failures: OpenFailures, task: Task, failure_list: FailureList, selection: Selection, *, as_json: bool
) -> None:
    """Replay or drop what was chosen, then say with how many entries it was done; exit 1 if it could not be with one.

    Each part is whole in itself: after a Ctrl-C the same command goes on with what is left.
    """
    parts = (
        failures.store.replay(failure_list, selection)
        if task == "replay"
        else failures.store.drop(failure_list, selection)
    )
    size = selection_size(selection)
    words = "all" if isinstance(selection, ListSnapshot) else action_log.describe_ids(size)
    action = Action(
        who=action_log.command_line_user(), by="command", what=task, where=failure_list.name, chosen=words, number=size
    )
    with failures.action_log.record(action) as progress:
        try:
            with click.progressbar(
                length=size, file=sys.stderr, hidden=size < _PROGRESS_BAR_MIN or not sys.stderr.isatty(), show_pos=True
            ) as bar:
                for part in parts:
                    for failure_id, why in part.failed:
                        error = {"id": failure_id, "error": str(why)}
                        click.echo(msgspec.json.encode(error) if as_json else f"{failure_id}: {why}", err=not as_json)
                    progress.done, progress.failed = progress.done + part.done, progress.failed + len(part.failed)
                    bar.update(part.done + len(part.failed))
        except KeyboardInterrupt:
            progress.is_stopped = True
    done = {"replay": "replayed", "drop": "dropped"}[task]
    if as_json:
        click.echo(
            msgspec.json.encode({done: progress.done, "failed": progress.failed, "interrupted": progress.is_stopped})
        )
    else:
        click.echo(f"{done}: {progress.done:,}" + (f"; could not: {progress.failed:,}" if progress.failed else ""))
    if progress.is_stopped:
        raise click.Abort
    sys.exit(1 if progress.failed else 0)


def printable(text: str) -> str:
    """Give all of `text` on one line, harmless to a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def short(text: str) -> str:
    """Give a line's worth of `text`, harmless to a terminal."""
    line = printable(text)
    return line if len(line) <= _MAX_CHARACTERS else line[: _MAX_CHARACTERS - 1] + "…"
