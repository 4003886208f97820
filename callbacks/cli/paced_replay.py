"""`callbacks dead replay --rate`: a bulk action that this command runs, and that the page *Actions* shows meanwhile.

Ctrl-C, or a stop on the page, ends it after the current step; the page, or the same command, continues with the rest.
"""

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click
import msgspec

from callbacks.cli import failure_options
from callbacks.cli.failure_options import OpenFailures
from workers.admin import action_log
from workers.admin.action_log import Action, ActionProgress
from workers.admin.bulk_action import BulkActions, RemainingWork
from workers.admin.replay_rate import format_limit
from workers.failures import iteration
from workers.failures.cursor import Cursor, FailureFilter
from workers.failures.failure_list import FailureList


def run(
    failures: OpenFailures,
    failure_list: FailureList,
    ids: Sequence[str],
    wanted: FailureFilter,
    *,
    per_second: float,
    as_json: bool,
) -> NoReturn:
    """Replay the dead letters that match, `per_second` at most; print how many were, and end the command."""
    actions = BulkActions(failures.connection)
    work, chosen, number = _select(failures, failure_list, ids, wanted)
    action = Action(
        who=action_log.command_line_user(),
        by="command",
        what="replay",
        where=failure_list.name,
        chosen=f"{chosen}, at most {format_limit(per_second)}",
        number=number,
    )
    action_id = actions.start(action, msgspec.structs.replace(work, per_second=per_second))
    if not as_json:
        click.echo(f"The page Actions shows it as {action_id}.", err=True)
    with (
        _stopped_by_ctrl_c() as stopping,
        click.progressbar(length=number, file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True) as bar,
    ):

        def is_stopping() -> bool:
            state = actions.get_state(action_id)
            if state is not None:
                bar.update(state.action.done + state.action.failed - bar.pos)
            return stopping.is_set()

        actions.run(action_id, is_stopping=is_stopping)
    state = actions.get_state(action_id)
    progress = ActionProgress(action_id=action_id)
    if state is not None:
        progress.done, progress.failed = state.action.done, state.action.failed
        progress.is_stopped = state.action.state != "done"
        for failure_id, why in () if state.work is None else state.work.errors:
            failure_options.print_error(failure_id, why, as_json=as_json)
    failure_options.print_result("replay", failure_list, progress, as_json=as_json)


def _select(
    failures: OpenFailures, failure_list: FailureList, ids: Sequence[str], wanted: FailureFilter
) -> tuple[RemainingWork, str, int]:
    """Return what is to be done, in the words of the action log, and how many dead letters that is."""
    work = RemainingWork(task="replay", handler=failure_list.handler)
    chosen = action_log.describe_selection(ids, wanted)
    if ids:
        found = tuple(row.id for row in iteration.iterate_rows(failures.connection, failure_list, wanted, ids=ids))
        return msgspec.structs.replace(work, ids=found), chosen, len(found)
    newest = Cursor.before(int(failures.store.snapshot(failure_list).until_ms))
    number = iteration.count(failures.connection, failure_list, wanted)
    return msgspec.structs.replace(work, failure_filter=wanted, cursor=newest), chosen, number


@contextmanager
def _stopped_by_ctrl_c() -> Iterator[threading.Event]:
    stopping = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stopping.set())
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, before)
