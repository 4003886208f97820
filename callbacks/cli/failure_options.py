"""What `callbacks quarantine` and `callbacks dead` share: options, selecting failures, replaying and dropping them."""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import click
import msgspec
import redis

from callbacks.cli.age import Age
from callbacks.cli.redis_connection import open_redis
from workers.admin import action_log, replay_outcome
from workers.admin.action_log import Action, ActionLog, ActionProgress
from workers.admin.bulk_action import Task
from workers.failures import iteration
from workers.failures.cursor import FailureFilter
from workers.failures.failure import FailureNotFound
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


def filter_options(function: Function) -> Callable[..., Any]:
    """Add `--error`, `--since` and `--until` to a command, which gets them as a filter, `wanted`."""

    @click.option("--error", metavar="TEXT", default="", help="Only those whose error contains TEXT, in any case.")
    @click.option("--since", type=Age(), help="Only those since then: 90s, 30m, 2h, 7d, or 2026-01-31T18:00 in UTC.")
    @click.option("--until", type=Age(), help="Only those until then, likewise.")
    @functools.wraps(function)
    def command(*, error: str, since: datetime | None, until: datetime | None, **given: Any) -> Any:
        return function(wanted=FailureFilter(error=error, since=since, until=until), **given)

    return command


class Matches(NamedTuple):
    """The failures that matched, and what they matched in the words of the action log."""

    ids: tuple[str, ...]
    chosen: str


class OpenFailures(NamedTuple):
    """The lists of failures, and the action log, over one connection."""

    connection: redis.Redis
    store: FailureStore
    action_log: ActionLog


@contextmanager
def open_failures() -> Iterator[OpenFailures]:
    """Open the failures in the Redis of the settings. An error of Redis ends the command with exit code 1."""
    with open_redis() as (_, client):
        yield OpenFailures(client, FailureStore(client), ActionLog(client))


def require_selection(ids: Sequence[str], wanted: FailureFilter, *, select_all: bool) -> None:
    """Raise click.UsageError unless either ids or --all were given, or neither but what failures must match."""
    if ids and select_all:
        raise click.UsageError("Give ids, or --all, not both.")
    if not ids and not select_all and wanted.matches_all:
        raise click.UsageError("Give ids, --error, --since, --until or --all.")


def select(
    failures: OpenFailures, failure_list: FailureList, ids: tuple[str, ...], wanted: FailureFilter
) -> Selection | Matches:
    """Return the selection: the given ids or all failures that the list has now, and of these those that match."""
    if wanted.matches_all:
        return ids or failures.store.snapshot(failure_list)
    found = tuple(row.id for row in iteration.iterate_rows(failures.connection, failure_list, wanted, ids=ids))
    return Matches(found, action_log.describe_selection(ids, wanted))


def selection_size(selection: Selection | Matches) -> int:
    """Return how many failures are selected."""
    if isinstance(selection, Matches):
        return len(selection.ids)
    return selection.size if isinstance(selection, ListSnapshot) else len(selection)


def run_on(
    failures: OpenFailures, task: Task, failure_list: FailureList, selection: Selection | Matches, *, as_json: bool
) -> None:
    """Replay or drop the selection, and print how many were done. Exit code 1 if one could not be.

    Each step is complete in itself: after Ctrl-C the same command continues with the rest.
    """
    size = selection_size(selection)
    if isinstance(selection, Matches):
        selected: Selection = selection.ids
        words = selection.chosen
    else:
        selected = selection
        words = "all" if isinstance(selection, ListSnapshot) else action_log.describe_ids(size)
    do = failures.store.replay if task == "replay" else failures.store.drop
    parts = do(failure_list, selected)
    action = Action(
        who=action_log.command_line_user(), by="command", what=task, where=failure_list.name, chosen=words, number=size
    )
    with failures.action_log.record(action) as progress:
        try:
            with click.progressbar(
                length=size, file=sys.stderr, hidden=size < _PROGRESS_BAR_MIN or not sys.stderr.isatty(), show_pos=True
            ) as bar:
                for part in parts:
                    failed = part.failed
                    if isinstance(selection, Matches):
                        # A failure that was dropped or replayed since it was found is not an error.
                        failed = tuple(one for one in failed if not isinstance(one[1], FailureNotFound))
                    for failure_id, why in failed:
                        print_error(failure_id, str(why), as_json=as_json)
                    progress.done, progress.failed = progress.done + part.done, progress.failed + len(failed)
                    if failure_list.handler is not None:
                        replay_outcome.record_replayed(failures.connection, progress.action_id, part.replayed)
                    bar.update(part.done + len(part.failed))
        except KeyboardInterrupt:
            progress.is_stopped = True
    print_result(task, failure_list, progress, as_json=as_json)


def print_error(failure_id: str, why: str, *, as_json: bool) -> None:
    """Print that a failure could not be replayed or dropped, and why."""
    error = {"id": failure_id, "error": why}
    click.echo(msgspec.json.encode(error) if as_json else f"{failure_id}: {why}", err=not as_json)


def print_result(task: Task, failure_list: FailureList, progress: ActionProgress, *, as_json: bool) -> NoReturn:
    """Print how many failures were replayed or dropped, and end the command: exit code 1 if one could not be."""
    done = {"replay": "replayed", "drop": "dropped"}[task]
    has_outcome = task == "replay" and failure_list.handler is not None and progress.done and progress.action_id
    if as_json:
        summary = {done: progress.done, "failed": progress.failed, "interrupted": progress.is_stopped}
        click.echo(msgspec.json.encode(summary | ({"action_id": progress.action_id} if has_outcome else {})))
    else:
        click.echo(f"{done}: {progress.done:,}" + (f"; failed: {progress.failed:,}" if progress.failed else ""))
        if has_outcome:
            click.echo(f"`callbacks dead outcome {progress.action_id}` shows what became of them.", err=True)
    if progress.is_stopped:
        raise click.Abort
    sys.exit(1 if progress.failed else 0)
