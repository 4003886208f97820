"""`callbacks handlers pause`, `on`, `drain` and `drop`: what becomes of a handler's queue when it does not deliver."""

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager

import click
import msgspec
import redis

from callbacks.cli import failure_options
from callbacks.cli.command import Command
from callbacks.cli.pause_notice import PauseNotice
from callbacks.cli.redis_connection import open_redis
from shared import connections, logs, queues
from shared.did_you_mean import did_you_mean
from workers.admin import action_log, handler_catalog, handler_states, queue_state
from workers.admin.action_log import Action, ActionKind, ActionLog, ActionProgress
from workers.admin.drain import QueueDrain
from workers.admin.handler_catalog import CatalogEntry
from workers.admin.purge import Purger
from workers.admin.queue_state import QueueState
from workers.runtime import pause
from workers.runtime.journal_folder import JournalFolder
from workers.runtime.maintenance import Maintenance
from workers.runtime.supervisor import Supervisor

# What is settled after a stop, as for `callbacks worker deliver`.
_SETTLE_SECONDS = 10.0
_LONG_EVENTS = 1000

_name = click.argument("name", metavar="NAME")


@click.command("pause", cls=Command)
@_name
def pause_handler(*, name: str) -> None:
    """Turn NAME off: its workers call it no more.

    Events go on arriving in its queue, and nothing is lost. What it has in hands it finishes.
    """
    with open_redis() as (loaded, client):
        _require_known(handler_catalog.list_entries(loaded.handlers), client, name)
        before = pause.read_state(client, name)
        with _record(client, "pause", name):
            pause.pause(client, name)
        waits = queue_state.read_state(client, name)
    what = "was off already" if before is not None and _is_paused_by_operator(before) else "is off now"
    click.echo(f"{name!r} {what}; {_events(waits.total)} in its queue, and what comes is added to them.")
    click.echo(f"`callbacks handlers resume {name}` turns it on.")


@click.command("resume", cls=Command)
@_name
def resume_handler(*, name: str) -> None:
    """Turn NAME on, or end its pause: it catches up with what waits."""
    with open_redis() as (loaded, client):
        _require_known(handler_catalog.list_entries(loaded.handlers), client, name)
        with _record(client, "resume", name):
            was_paused = pause.resume(client, name)
        waits = queue_state.read_state(client, name)
    what = "is on again" if was_paused else "was on"
    workers = "" if waits.workers or not waits.total else " No worker listens: start `callbacks worker deliver`."
    click.echo(f"{name!r} {what}; {_events(waits.total)} in its queue.{workers}")


@click.command(cls=Command)
@_name
@click.option("--from", "source", metavar="MODULE", help="Where it is declared: a module, or an installed name.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="How many processes.")
def drain(*, name: str, source: str | None, processes: int) -> None:
    """Deliver what waits for NAME, which was removed.

    CALLBACKS_HANDLERS names it no more, so nothing new comes to its queue. This delivers what is there, also what
    failed and is tried again later, and ends when nothing is left. Ctrl-C ends it before; run again, it goes on.
    """
    with open_redis() as (loaded, client):
        found = handler_catalog.list_entries(loaded.handlers)
        if _is_named(found, name):
            raise click.UsageError(
                f"{name!r} is named in CALLBACKS_HANDLERS, so `callbacks worker deliver` delivers what waits for it."
            )
        _require_known(found, client, name)
        handler = (
            handler_catalog.select_handler(name, found)
            if source is None
            else handler_catalog.load_declared(source, name)
        )
        pause_state = pause.read_state(client, name)
        if pause_state is not None and _is_paused_by_operator(pause_state):
            raise click.ClickException(f"{name!r} is off: first `callbacks handlers resume {name}`.")
        waits = queue_state.read_state(client, name)
        if waits.workers:
            # Their environment may be another one than ours.
            raise click.ClickException(f"workers listen for {name!r} already, and deliver what waits for it.")
        if not waits.total and queue_state.is_empty(client, name):
            click.echo(f"Nothing waits for {name!r}.")
            return
        # The worker processes find it as they find every handler.
        os.environ["CALLBACKS_HANDLERS"] = source or next(one.entry for one in found if one.handler is handler)
        logs.configure()
        connection = connections.connect(loaded.redis_url, timeout_seconds=connections.WEB_TIMEOUT_SECONDS)
        on_progress = _DrainProgress(name, PauseNotice(connection, name))
        maintenance = Maintenance(
            [queues.delivery_queue(name)],
            connection=connection,
            journals=JournalFolder.from_run_dir(loaded.run_dir),
            tasks={"maintenance_drain": QueueDrain(name, connection=connection, on_progress=on_progress)},
        )
        with _record(client, "drain", name, number=waits.total) as progress:
            code = Supervisor(
                [queues.delivery_queue(name)] * processes,
                maintenance=maintenance,
                grace_seconds=handler.timeout_seconds + _SETTLE_SECONDS,
            ).run()
            left = queue_state.read_state(client, name)
            progress.done, progress.is_stopped = max(waits.total - left.total, 0), bool(left.total)
    if left.total:
        click.echo(f"{_events(left.total)} left in the queue of {name!r}.")
        sys.exit(code or 1)
    click.echo(f"The queue of {name!r} is empty; {left.dead:,} dead letters.")
    sys.exit(code)


@click.command(cls=Command)
@_name
@failure_options.yes_option
@failure_options.json_option
def purge(*, name: str, yes: bool, as_json: bool) -> None:
    """Discard what waits for NAME, for good.

    It must be off, or removed from CALLBACKS_HANDLERS. What is discarded is counted as dropped. Dead letters stay:
    `callbacks dead drop`.
    """
    with open_redis() as (loaded, client):
        found = handler_catalog.list_entries(loaded.handlers)
        _require_known(found, client, name)
        pause_state = pause.read_state(client, name)
        if _is_named(found, name) and not (pause_state is not None and _is_paused_by_operator(pause_state)):
            raise click.UsageError(f"{name!r} is named in CALLBACKS_HANDLERS: first `callbacks handlers pause {name}`.")
        purger = Purger(client, name, journals=JournalFolder.from_run_dir(loaded.run_dir))
        purger.prepare()
        before = queue_state.read_state(client, name)
        if not yes and before.total:
            click.confirm(f"Discard {_events(before.total)} waiting for {name!r} for good?", abort=True, err=True)
        unreadable = 0
        with (
            _record(client, "purge", name, number=before.total) as progress,
            click.progressbar(
                length=before.total,
                file=sys.stderr,
                hidden=before.total < _LONG_EVENTS or not sys.stderr.isatty(),
                show_pos=True,
            ) as bar,
        ):
            for part in purger.run():
                progress.done, unreadable = progress.done + part.events, unreadable + part.unreadable
                bar.update(part.events)
        left = queue_state.read_state(client, name)
    if as_json:
        click.echo(msgspec.json.encode({"dropped": progress.done, "unreadable_jobs": unreadable, "left": left.total}))
    else:
        click.echo(f"dropped: {progress.done:,}" + (f"; left: {left.total:,}" if left.total else ""))
        if unreadable:
            click.echo(f"{unreadable:,} jobs cannot be read by this release, and stay.", err=True)
    sys.exit(1 if unreadable else 0)


class _DrainProgress:
    """Says on standard error what still waits, whenever that has changed, and that the handler is held."""

    def __init__(self, handler: str, pause_notice: PauseNotice) -> None:
        self._handler = handler
        self._pause_notice = pause_notice
        self._printed = (-1, -1)

    def __call__(self, waits: QueueState) -> None:
        """Say it. Raises redis.RedisError."""
        self._pause_notice.print_if_paused()
        now = (waits.waiting + waits.running, waits.scheduled)
        if now == self._printed or not sum(now):
            return
        self._printed = now
        scheduled = ""
        if waits.scheduled and waits.next_attempt_at is not None:
            scheduled = f", {waits.scheduled:,} to be tried again, the next at {waits.next_attempt_at:%H:%M:%S} UTC"
        click.echo(f"{self._handler}: {now[0]:,} waiting{scheduled}", err=True)


def _record(
    client: redis.Redis, what: ActionKind, name: str, *, number: int | None = None
) -> AbstractContextManager[ActionProgress]:
    action = Action(who=action_log.command_line_user(), by="command", what=what, where=f"handler:{name}", number=number)
    return ActionLog(client).record(action)


def _require_known(found: Sequence[CatalogEntry], client: redis.Redis, name: str) -> None:
    known = {one.name for one in found if one.is_named and one.handler is not None} | set(
        handler_states.known_names(client)
    )
    if name not in known:
        meant = did_you_mean(name, known)
        raise click.UsageError(f"No handler {name!r} is known{meant}; there are: {', '.join(sorted(known)) or 'none'}.")


def _is_named(found: Sequence[CatalogEntry], name: str) -> bool:
    return any(one.is_named and one.name == name for one in found)


def _is_paused_by_operator(pause_state: pause.PauseState) -> bool:
    return pause_state.until is None


def _events(number: int) -> str:
    return f"{number:,} event{'' if number == 1 else 's'}"
