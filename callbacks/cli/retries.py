"""`callbacks retries`: events that failed at a handler and wait for their next attempt."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import click
import msgspec
import redis

from callbacks.cli import failure_options
from callbacks.cli.command import Command, Group
from callbacks.cli.numbers_option import numbers_option
from callbacks.cli.pause_notice import PauseNotice, describe_pause
from callbacks.cli.redis_connection import open_redis
from callbacks.cli.terminal_text import short
from callbacks.ops.status.quantities import format_duration
from shared import keys, queues
from shared.counted import counted
from shared.did_you_mean import did_you_mean
from shared.events import rfc3339
from workers.admin import action_log, handler_states
from workers.admin.action_log import Action, ActionLog, ActionProgress
from workers.admin.bulk_action import RetryTask
from workers.admin.give_up import LEFT_TEXT, GiveUpStep
from workers.admin.message_forms import Numbers, shown_number
from workers.admin.retry_rows import RetryCursor, RetryFilter, RetryRow
from workers.admin.scheduled_retries import JOBS_PER_STEP, ScheduledRetries, describe_retries, retries_where
from workers.runtime import pause

# Fewer are promoted before a progress bar would help.
_PROGRESS_BAR_MIN: Final = 5000
# An event's id has 24 hexadecimal digits; no handler is called like that.
_EVENT_ID: Final = re.compile(r"[0-9a-f]{16,64}")

_error_option: Final = click.option(
    "--error", metavar="TEXT", default="", help="Only those whose error contains TEXT, in any case."
)
_message_option: Final = click.option(
    "--message",
    metavar="ID",
    default="",
    help="Only those of this message or reply, by any of its ids.",
)


@click.group(cls=Group)
def retries() -> None:
    """List retries, events that failed at a handler and wait for their next attempt; try them, or give up on them."""


@retries.command("list", cls=Command)
@click.argument("handler", required=False)
@_error_option
@_message_option
@failure_options.paging_options
@numbers_option
@failure_options.json_option
def list_retries(
    *,
    handler: str | None,
    error: str,
    message: str,
    skip: int,
    limit: int,
    numbers: Numbers,
    as_json: bool,
) -> None:
    """List the retries of HANDLER, or of all handlers.

    In the order in which they are due; for each its handler, event id, message id, status, phone number, which attempt
    is due, of how many, when, and what the last one raised or said.
    """
    with open_redis() as (_, client):
        _require_known(handler_states.known_names(client), handler)
        found = ScheduledRetries(client)
        wanted = RetryFilter(handler=handler or "", error=error, message=message)
        rows = list(islice(found.iterate(wanted, skip=skip), limit + 1))
        for row in rows[:limit]:
            shown = msgspec.structs.replace(row, number=shown_number(row.number, numbers))
            click.echo(_as_json(shown) if as_json else _as_line(shown))
        if not as_json:
            sizes = found.count()
            total = sizes.get(handler, 0) if handler else sum(sizes.values())
            matching = f"{len(rows[:limit]):,} shown; " if error or message else ""
            more = f"; more: --skip {skip + limit}" if len(rows) > limit else ""
            click.echo(f"{matching}{total:,} in total{more}")
            for name in dict.fromkeys(row.handler for row in rows):
                PauseNotice(client, name).print_if_paused()


def _choosing(command: Callable[..., None]) -> Callable[..., None]:
    """Add what chooses retries: a handler, ids of events, conditions; and how it is asked and said."""
    for decorate in (
        failure_options.json_option,
        failure_options.yes_option,
        _message_option,
        _error_option,
        click.argument("ids", metavar="[ID]…", nargs=-1),
        click.argument("handler", required=False),
    ):
        command = decorate(command)
    return command


@retries.command(cls=Command)
@_choosing
def now(**given: Any) -> None:
    """Try the retries of HANDLER now, or those of all handlers.

    All, or only those of the events with these ids; --error and --message narrow that down. They go to the end of the
    handler's queue, and keep the number of their attempt.
    """
    _run("retry", **given)


@retries.command("give-up", cls=Command)
@_choosing
def give_up(**given: Any) -> None:
    """Make dead letters of HANDLER's retries now.

    Without HANDLER, of those of all handlers. All, or only those of the events with these ids; --error and --message
    narrow that down. `callbacks dead replay` delivers a dead letter again.
    """
    _run("give_up", **given)


def _run(
    task: RetryTask,
    *,
    handler: str | None,
    ids: tuple[str, ...],
    error: str,
    message: str,
    yes: bool,
    as_json: bool,
) -> None:
    if ids and message:
        raise click.UsageError("Give ids, or --message, not both.")
    with open_redis() as (_, client):
        known = handler_states.known_names(client)
        if handler is not None and handler not in known and _EVENT_ID.fullmatch(handler):
            ids, handler = (handler, *ids), None
        _require_known(known, handler)
        retries_found = ScheduledRetries(client)
        wanted = RetryFilter(handler=handler or "", error=error, event_ids=ids, message=message)
        selected, missing = _select(retries_found, wanted)
        if selected and not yes:
            whose = f" of {handler!r}" if handler else ""
            which = f"{counted(len(selected), 'retry', 'retries')}{whose}"
            question = f"Try {which} now?" if task == "retry" else f"Give up on {which} now?"
            click.confirm(question, abort=True, err=True)
        action = Action(
            who=action_log.command_line_user(),
            by="command",
            what=task,
            where=retries_where(handler or ""),
            chosen=action_log.describe_ids(len(ids)) if ids else describe_retries(wanted),
            number=len(selected),
        )
        with ActionLog(client).record(action) as progress:
            _run_steps(_step(client, task, retries_found, progress), selected, progress)
        for event_id in missing:
            problem = {"id": event_id, "error": "There is no retry of this event."}
            click.echo(msgspec.json.encode(problem) if as_json else f"{event_id}: {problem['error']}", err=not as_json)
        _print_result(task, progress, len(selected), as_json=as_json)
        for name in sorted({name for name, _ in selected}) if task == "retry" else ():
            _print_delay(client, name)
    if progress.is_stopped:
        raise click.Abort
    sys.exit(1 if missing or progress.failed else 0)


def _step(
    client: redis.Redis, task: RetryTask, found: ScheduledRetries, progress: ActionProgress
) -> Callable[[Sequence[tuple[str, str]]], None]:
    """Return what does one step, and counts it."""
    give_up_step = GiveUpStep(client)

    def step(selected: Sequence[tuple[str, str]]) -> None:
        if task == "retry":
            progress.done += found.promote(selected)
            return
        given_up = give_up_step.run(selected)
        progress.done += given_up.done
        progress.failed += len(given_up.left)

    return step


def _require_known(known: Sequence[str], handler: str | None) -> None:
    if handler is not None and handler not in known:
        meant, there = did_you_mean(handler, known), ", ".join(known) or "none"
        raise click.UsageError(f"No handler {handler!r} has had an event{meant}; there are: {there}.")


def _select(found: ScheduledRetries, wanted: RetryFilter) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the retries that match, each as its handler and its job's id, and the ids of events that have none."""
    if not wanted.reads_events:
        return list(_find_all(found, wanted)), []
    rows = list(found.iterate(wanted))
    known = {event_id for row in rows for event_id in row.matching_ids}
    return [(row.handler, row.job_id) for row in rows], [one for one in wanted.event_ids if one not in known]


def _find_all(found: ScheduledRetries, wanted: RetryFilter) -> Iterator[tuple[str, str]]:
    cursor: RetryCursor | None = RetryCursor()
    while cursor is not None:
        members, cursor = found.find(wanted, after=cursor)
        yield from ((member.handler, member.cursor.job_id) for member in members)


def _run_steps(
    step: Callable[[Sequence[tuple[str, str]]], None], selected: Sequence[tuple[str, str]], progress: ActionProgress
) -> None:
    """Go through them in steps, each complete in itself: after Ctrl-C the same command continues with the rest."""
    is_hidden = len(selected) < _PROGRESS_BAR_MIN or not sys.stderr.isatty()
    try:
        with click.progressbar(length=len(selected), file=sys.stderr, hidden=is_hidden, show_pos=True) as bar:
            for first in range(0, len(selected), JOBS_PER_STEP):
                part = selected[first : first + JOBS_PER_STEP]
                step(part)
                bar.update(len(part))
    except KeyboardInterrupt:
        progress.is_stopped = True


def _print_result(task: RetryTask, progress: ActionProgress, selected: int, *, as_json: bool) -> None:
    gone = 0 if progress.is_stopped else selected - progress.done - progress.failed
    done, left = progress.done, progress.failed
    if as_json:
        name = "promoted" if task == "retry" else "given_up"
        result = {name: done, "gone": gone, "interrupted": progress.is_stopped}
        click.echo(msgspec.json.encode(result if task == "retry" else result | {"left": left}))
        return
    text = f"promoted: {done:,}" if task == "retry" else f"given up on: {done:,}"
    text += f"; no longer scheduled: {gone:,}" if gone else ""
    click.echo(text + (f"; left: {left:,} ({LEFT_TEXT})" if left else ""))


def _print_delay(client: redis.Redis, handler: str) -> None:
    """Say on standard error why promoted events are not tried at once."""
    pause_state = pause.read_state(client, handler)
    if pause_state is not None and pause_state.seconds_left:
        click.echo(f"They wait: {describe_pause(handler, pause_state)}", err=True)
    elif not any(map(client.exists, client.smembers(keys.rq_workers(queues.delivery_queue(handler))))):
        click.echo(f"They wait: no worker of {handler!r} is running. Start `callbacks worker deliver`.", err=True)


def _as_line(row: RetryRow) -> str:
    of = f" of {row.attempts}" if row.attempts is not None else ""
    attempt = "attempt ?" if row.attempt is None else f"attempt {row.attempt}{of}"
    if row.events > 1:
        attempt += f", {counted(row.events, 'event')}"
    seconds = (row.next_at - datetime.now(UTC)).total_seconds()
    when = f"{rfc3339(row.next_at)} ({f'in {format_duration(seconds)}' if seconds > 0 else 'due'})"
    status = "reply" if row.kind == "reply" else row.status or "-"
    texts = (row.handler, row.id or "-", row.message_id or "-", status, row.number or "-", attempt, when)
    return "  ".join(map(short, (*texts, row.error or "-")))


def _as_json(row: RetryRow) -> bytes:
    fields = msgspec.structs.asdict(row) | {"next_at": rfc3339(row.next_at)}
    del fields["matching_ids"]
    return msgspec.json.encode(fields)
