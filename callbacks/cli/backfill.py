"""`callbacks backfill`: a new handler is given the past, from the tables of the handler `sql`."""

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import click
import msgspec
import redis

from callbacks.cli import failure_options, message_history
from callbacks.cli.command import Command
from callbacks.cli.pause_notice import PauseNotice
from callbacks.cli.redis_connection import open_redis
from shared.errors import ConfigurationError
from shared.events import Event, rfc3339
from shared.settings import Settings
from shared.stored_times import stored_time
from workers.admin import handler_catalog, queue_state
from workers.admin.backfill import EVENTS_PER_STEP, Backfill, BackfillStep
from workers.declaration import Handler
from workers.expand import subscriptions
from workers.expand.subscriptions import Subscriptions
from workers.handlers.sql import stored_events
from workers.handlers.sql.database_url import DatabaseUrl
from workers.handlers.sql.errors import DatabaseUnavailable

_PAUSE_SECONDS: Final = 0.2
_LONG_EVENTS: Final = 1000
# An event is offered after it was received, by clocks that need not agree.
_CLOCK_TOLERANCE: Final = timedelta(hours=1)


class _EventCounter:
    """Counts the events that are read, and those of them that the handler wants."""

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
@click.option("--since", type=message_history.Age(), required=True, help="Events received since: 90s, 30m, 2h, 7d.")
@click.option("--until", type=message_history.Age(), help="Only those received before then, likewise.")
@click.option("--kind", type=click.Choice(("report", "reply")), help="Only these; all that it takes otherwise.")
@click.option(
    "--max-waiting", type=click.IntRange(1000), default=20_000, show_default=True, help="Wait while more wait for it."
)
@click.option("--anyway", is_flag=True, help="Also what it was offered the usual way: that comes a second time.")
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
    """Give the handler NAME events of the past.

    They are read from the database of the handler `sql` (DATABASE_URL), in the order in which they were received,
    and enqueued for NAME alone, if its filters let them pass: the very same events, ids included.

    First name it in CALLBACKS_HANDLERS and restart the workers; from then on it has what is new. Then run this. Each
    event comes once, also if this is broken off and run again within 30 days, and what it was offered the usual way
    is left out. Only while expand workers were being restarted one after the other, one may come both ways.
    """
    with open_redis() as (loaded, client):
        handler = handler_catalog.find_handler(name, loaded.handlers)
        address, kinds = _address(loaded), _kinds(handler, kind)
        offers = None if anyway else _require_subscriptions(client, name)
        until = min(until or datetime.now(UTC), _latest_end(offers))
        if until <= since:
            raise click.UsageError(f"Nothing lies between {rfc3339(since)} and {rfc3339(until)}.")
        try:
            number = stored_events.count_events(address, kinds=kinds, since=since, until=until)
            if not as_json:
                click.echo(f"{number:,} events were received from {rfc3339(since)} to {rfc3339(until)}.")
            counter = _EventCounter(handler)
            events = counter.matching_events(stored_events.read_events(address, kinds=kinds, since=since, until=until))
            if dry_run:
                steps = _count_only(events)
            else:
                backfill_run = Backfill(client, name, offers=offers, dedupe_seconds=loaded.dedupe_seconds)
                steps = backfill_run.enqueue(events, before_each=_wait_for_room(client, name, max_waiting))
            total = _run_steps(steps, counter, number)
        except DatabaseUnavailable as exc:
            raise click.ClickException(str(exc)) from exc
    _print_result(name, counter, total, dry_run=dry_run, as_json=as_json)


def _address(loaded: Settings) -> DatabaseUrl:
    try:
        return DatabaseUrl.parse(loaded.database_url)
    except ValueError as exc:
        raise ConfigurationError([str(exc)]) from exc


def _kinds(handler: Handler, kind: str | None) -> set[str]:
    kinds: set[str] = {one for one in handler.kinds if kind in (None, one)}
    if not kinds:
        raise click.UsageError(f"{handler.name!r} takes no event of kind {kind!r}.")
    return kinds


def _require_subscriptions(client: redis.Redis, name: str) -> Subscriptions:
    """Give when the handler was offered events. Ends the command where that cannot be known."""
    found = subscriptions.find(client, name)
    if found is None:
        raise click.ClickException(
            f"no expand worker knows {name!r} yet: name it in CALLBACKS_HANDLERS and restart the workers, so that it "
            "has what is new from then on; then run this"
        )
    if found.is_pending:
        raise click.ClickException(
            f"expand workers that do not know {name!r} are still at work: stop them, wait a few seconds, and run this "
            "again, or it will miss what they expand"
        )
    if found.is_unknown:
        raise click.ClickException(
            f"{name!r} had events before it was noted since when, so what it had is not known: --anyway gives it all"
        )
    return found


def _latest_end(offers: Subscriptions | None) -> datetime:
    since_ms = None if offers is None else offers.since_ms
    return datetime.now(UTC) if since_ms is None else stored_time(since_ms) + _CLOCK_TOLERANCE


def _wait_for_room(client: redis.Redis, name: str, max_waiting: int) -> Callable[[], None]:
    """Give what waits until the next step fits: else a year of events would stand in Redis's memory."""
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
    """Go through the steps, and show how many of the events are read."""
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
                total.already_offered + step.already_offered,
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
                "already_offered": total.already_offered,
            }
        click.echo(msgspec.json.encode(result))
        return
    if dry_run:
        click.echo(f"{name!r} would want {counter.matching:,} of them; {filtered:,} its filters keep from it.")
        click.echo("What it has had already would be left out of these. Nothing was changed: --dry-run.")
        return
    click.echo(f"{total.enqueued:>12,}  enqueued for {name}")
    click.echo(f"{total.already_enqueued:>12,}  given by an earlier backfill")
    click.echo(f"{total.already_offered:>12,}  offered the usual way")
    click.echo(f"{filtered:>12,}  kept from it by its filters")
