"""`callbacks handlers drain`: deliver what waits for a handler that was removed."""

import os
import sys
from typing import Final

import click

from callbacks.cli import handler_argument
from callbacks.cli.command import Command
from callbacks.cli.pause_notice import PauseNotice
from callbacks.cli.redis_connection import open_redis
from shared import connections, logs, queues
from shared.counted import counted
from workers.admin import handler_catalog, queue_state
from workers.admin.drain import QueueDrain
from workers.admin.queue_state import QueueState
from workers.runtime import pause
from workers.runtime.journal_folder import JournalFolder
from workers.runtime.maintenance import Maintenance
from workers.runtime.supervisor import Supervisor

# For settling results after a stop, as in `callbacks worker deliver`.
_SETTLE_SECONDS: Final = 10.0


@click.command(cls=Command)
@handler_argument.name_argument
@click.option("--from", "source", metavar="MODULE", help="Where it is declared: a module, or an installed name.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="How many processes.")
def drain(*, name: str, source: str | None, processes: int) -> None:
    """Deliver what waits for NAME, which was removed.

    CALLBACKS_HANDLERS no longer names it, so no new events come to its queue. This delivers what is there, also what
    failed and is scheduled for a retry, and ends when the queue is empty. Ctrl-C stops it; run it again to continue.
    """
    with open_redis() as (loaded, client):
        found = handler_catalog.list_entries(loaded.handlers)
        if handler_argument.is_named(found, name):
            raise click.UsageError(
                f"{name!r} is named in CALLBACKS_HANDLERS, so `callbacks worker deliver` delivers what waits for it."
            )
        handler_argument.require_known(found, client, name)
        handler = (
            handler_catalog.select_handler(name, found)
            if source is None
            else handler_catalog.load_declared(source, name)
        )
        pause_state = pause.read_state(client, name)
        if handler_argument.is_paused_by_operator(pause_state):
            raise click.ClickException(f"{name!r} is paused: first `callbacks handlers resume {name}`.")
        waits = queue_state.read_state(client, name)
        if waits.workers:
            # Their environment may differ from ours.
            raise click.ClickException(f"workers for {name!r} are already running, and deliver what waits for it.")
        if not waits.total and queue_state.is_empty(client, name):
            click.echo(f"Nothing waits for {name!r}.")
            return
        # The worker processes load it as they load every handler.
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
        with handler_argument.record(client, "drain", name, number=waits.total) as progress:
            code = Supervisor(
                [queues.delivery_queue(name)] * processes,
                maintenance=maintenance,
                grace_seconds=handler.timeout_seconds + _SETTLE_SECONDS,
            ).run()
            left = queue_state.read_state(client, name)
            progress.done, progress.is_stopped = max(waits.total - left.total, 0), bool(left.total)
    if left.total:
        click.echo(f"{counted(left.total, 'event')} left in the queue of {name!r}.")
        sys.exit(code or 1)
    click.echo(f"The queue of {name!r} is empty; {counted(left.dead, 'dead letter')}.")
    sys.exit(code)


class _DrainProgress:
    """Prints on standard error how many events still wait, when that changes, and whether the handler is paused."""

    def __init__(self, handler: str, pause_notice: PauseNotice) -> None:
        self._handler = handler
        self._pause_notice = pause_notice
        self._printed = (-1, -1)

    def __call__(self, waits: QueueState) -> None:
        """Print it. Raise redis.RedisError."""
        self._pause_notice.print_if_paused()
        now = (waits.waiting + waits.running, waits.scheduled)
        if now == self._printed or not sum(now):
            return
        self._printed = now
        scheduled = ""
        if waits.scheduled and waits.next_attempt_at is not None:
            scheduled = f", {waits.scheduled:,} to be retried, the next at {waits.next_attempt_at:%H:%M:%S} UTC"
        click.echo(f"{self._handler}: {now[0]:,} waiting{scheduled}", err=True)
