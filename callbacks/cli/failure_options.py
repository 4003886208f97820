"""What `callbacks quarantine` and `callbacks dead` share: options, selecting failures, replaying and dropping them."""

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

# Fewer are done before a progress bar would help.
_PROGRESS_BAR_MIN: Final = 1000

json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
all_option: Final = click.option("--all", "select_all", is_flag=True, help="All that are there now.")
yes_option: Final = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


def paging_options(function: Function) -> Function:
    """Add the options `--skip` and `--limit` to a command."""
    function = click.option(
        "--limit", "limit", type=click.IntRange(1), default=50, show_default=True, help="List at most this many."
    )(function)
    return click.option(
        "--skip", "skip", type=click.IntRange(0), default=0, show_default=True, help="Leave out the first N."
    )(function)


class OpenFailures(NamedTuple):
    """The lists of failures, and the action log."""

    store: FailureStore
    action_log: ActionLog


@contextmanager
def open_failures() -> Iterator[OpenFailures]:
    """Open the failures in the Redis of the settings. An error of Redis ends the command with exit code 1."""
    with open_redis() as (_, client):
        yield OpenFailures(FailureStore(client), ActionLog(client))


def require_selection(ids: Iterable[str], *, select_all: bool) -> None:
    """Raise click.UsageError unless either ids or --all were given."""
    if bool(tuple(ids)) == select_all:
        raise click.UsageError("Give ids, or --all.")


def select(store: FailureStore, failure_list: FailureList, ids: tuple[str, ...]) -> Selection:
    """Return the selection: the given ids, or all failures that the list has now."""
    return ids or store.snapshot(failure_list)


def selection_size(selection: Selection) -> int:
    """Return how many failures are selected."""
    return selection.size if isinstance(selection, ListSnapshot) else len(selection)


def run_on(
    failures: OpenFailures, task: Task, failure_list: FailureList, selection: Selection, *, as_json: bool
) -> None:
    """Replay or drop the selection, and print how many were done. Exit code 1 if one could not be.

    Each step is complete in itself: after Ctrl-C the same command continues with the rest.
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
        click.echo(f"{done}: {progress.done:,}" + (f"; failed: {progress.failed:,}" if progress.failed else ""))
    if progress.is_stopped:
        raise click.Abort
    sys.exit(1 if progress.failed else 0)
