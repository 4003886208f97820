"""`callbacks backfill`: enqueue events of the past for a new handler, from the tables of the handler `sql`."""

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import click
import msgspec
import redis

from callbacks.cli import failure_options, message_history
from callbacks.cli.age import Age
from callbacks.cli.command import Command
from callbacks.cli.pause_notice import PauseNotice
from callbacks.cli.redis_connection import open_redis
from shared.counted import counted
from shared.events import Event, rfc3339
from shared.stored_times import stored_time
from workers.admin import handler_catalog, queue_state
from workers.admin.backfill import EVENTS_PER_STEP, Backfill, BackfillStep
from workers.declaration import Handler
from workers.expand import subscriptions
from workers.expand.subscriptions import Subscriptions
from workers.handlers.sql import stored_events
from workers.handlers.sql.errors import DatabaseUnavailable

_PAUSE_SECONDS: Final = 0.2
_LONG_EVENTS: Final = 1000
# An event is offered after it was received, by the clocks of two hosts, which may differ.
_CLOCK_TOLERANCE: Final = timedelta(hours=1)


class _EventCounter:
    """Counts the events that are read, and those that match the handler's filters."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.read = self.matching = 0

    def matching_events(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            self.read += 1
            if self._handler.wants(event):
                self.matching += 1
                yield event


@click.command(cls=Command)
@click.argument("name", metavar="NAME")
@click.option(
    "--since",
    type=Age(),
    required=True,
    help="Events received since then: 90s, 30m, 2h, 7d, or 2026-01-31T18:00 in UTC.",
)
@click.option("--until", type=Age(), help="Only events received before then, likewise.")
@click.option("--kind", type=click.Choice(("report", "reply")), help="Only this kind; without it, all that it takes.")
@click.option(
    "--max-waiting",
    type=click.IntRange(1000),
    default=20_000,
    show_default=True,
    help="Wait while more events are queued.",
)
@click.option("--anyway", is_flag=True, help="Also events that it was offered when they arrived: it gets those twice.")
@click.option("--dry-run", is_flag=True, help="Count only.")
@failure_options.json_option
def backfill(
    *,
    name: str,
    since: datetime,
    until: datetime | None,
    kind: str | None,
    max_waiting: int,
    anyway: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Deliver events of the past to the handler NAME.

    They are read from the database of the handler `sql` (DATABASE_URL), in the order in which they were received, and
    enqueued for NAME only, if they match its filters: the same events, with the same ids.

    First name it in CALLBACKS_HANDLERS and restart the workers; from then on it gets new events. Then run this. Each
    event comes once, also if this is interrupted and run again within 30 days. Events that it was offered when they
    arrived are left out; only one that arrived while expand workers were being restarted may come twice.
    """
    with open_redis() as (loaded, client):
        handler = handler_catalog.find_handler(name, loaded.handlers)
        address, kinds = message_history.database_address(), _kinds(handler, kind)
        offers = None if anyway else _require_subscriptions(client, name)
        until = min(until or datetime.now(UTC), _latest_end(offers))
        if until <= since:
            raise click.UsageError(
                f"--since must be earlier than --until: {rfc3339(since)} is not before {rfc3339(until)}."
            )
        try:
            number = stored_events.count_events(address, kinds=kinds, since=since, until=until)
            if not as_json:
                click.echo(f"{counted(number, 'event')} received from {rfc3339(since)} to {rfc3339(until)}.")
            counter = _EventCounter(handler)
            events = counter.matching_events(stored_events.read_events(address, kinds=kinds, since=since, until=until))
            if dry_run:
                steps = _count_only(events)
            else:
                backfill_run = Backfill(client, name, offers=offers)
                steps = backfill_run.enqueue(events, before_each=_wait_for_room(client, name, max_waiting))
            total = _run_steps(steps, counter, number)
        except DatabaseUnavailable as exc:
            raise click.ClickException(str(exc)) from exc
    _print_result(name, counter, total, dry_run=dry_run, as_json=as_json)


def _kinds(handler: Handler, kind: str | None) -> set[str]:
    kinds: set[str] = {one for one in handler.kinds if kind in (None, one)}
    if not kinds:
        raise click.UsageError(f"{handler.name!r} takes no event of kind {kind!r}.")
    return kinds


def _require_subscriptions(client: redis.Redis, name: str) -> Subscriptions:
    """Return when the handler was offered events. Raise click.ClickException if that is not known."""
    found = subscriptions.find(client, name)
    if found is None:
        raise click.ClickException(
            f"no expand worker knows {name!r} yet: name it in CALLBACKS_HANDLERS and restart the workers, so that it "
            "gets new events; then run this again"
        )
    if found.is_pending:
        raise click.ClickException(
            f"expand workers that do not know {name!r} are still running, and it misses what they expand: stop them, "
            "wait a few seconds, and run this again"
        )
    return found


def _latest_end(offers: Subscriptions | None) -> datetime:
    since_ms = None if offers is None else offers.since_ms
    return datetime.now(UTC) if since_ms is None else stored_time(since_ms) + _CLOCK_TOLERANCE


def _wait_for_room(client: redis.Redis, name: str, max_waiting: int) -> Callable[[], None]:
    """Return a function that waits until the next step fits; otherwise a year of events would fill Redis's memory."""
    pause_notice = PauseNotice(client, name)

    def wait() -> None:
        pause_notice.print_if_paused()
        while not queue_state.has_fewer_than(client, name, max_waiting - EVENTS_PER_STEP + 1):
            time.sleep(_PAUSE_SECONDS)
            pause_notice.print_if_paused()

    return wait


def _count_only(events: Iterator[Event]) -> Iterator[BackfillStep]:
    for number, _ in enumerate(events, start=1):
        if number % EVENTS_PER_STEP == 0:
            yield BackfillStep(enqueued=EVENTS_PER_STEP)


def _run_steps(steps: Iterator[BackfillStep], counter: _EventCounter, number: int) -> BackfillStep:
    """Run the steps with a progress bar, and return their total."""
    total, drawn = BackfillStep(), 0
    with click.progressbar(
        length=number, file=sys.stderr, hidden=number < _LONG_EVENTS or not sys.stderr.isatty(), show_pos=True
    ) as bar:
        for step in steps:
            bar.update(counter.read - drawn)
            drawn = counter.read
            total = BackfillStep(
                total.enqueued + step.enqueued,
                total.already_enqueued + step.already_enqueued,
                total.already_fanned_out + step.already_fanned_out,
            )
        bar.update(counter.read - drawn)
    return total


def _print_result(name: str, counter: _EventCounter, total: BackfillStep, *, dry_run: bool, as_json: bool) -> None:
    filtered = counter.read - counter.matching
    if as_json:
        result = {"read": counter.read, "filtered": filtered, "matching": counter.matching, "dry_run": dry_run}
        if not dry_run:
            result |= {
                "enqueued": total.enqueued,
                "already_enqueued": total.already_enqueued,
                "already_fanned_out": total.already_fanned_out,
            }
        click.echo(msgspec.json.encode(result))
        return
    if dry_run:
        click.echo(f"{counter.matching:,} of them match the filters of {name!r}; {filtered:,} do not.")
        click.echo("Those that it has had would be left out. Nothing was changed: --dry-run.")
        return
    click.echo(f"{total.enqueued:>12,}  enqueued for {name}")
    click.echo(f"{total.already_enqueued:>12,}  enqueued by an earlier backfill")
    click.echo(f"{total.already_fanned_out:>12,}  offered when they arrived")
    click.echo(f"{filtered:>12,}  left out by its filters")
