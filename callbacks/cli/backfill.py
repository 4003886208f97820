"""`callbacks backfill`: a new handler is given the past, from the tables of the handler `sql`."""

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import click
import msgspec
import redis

from callbacks.cli import history, shelf_options
from callbacks.cli.command import Command
from callbacks.cli.connected import connected
from callbacks.cli.held import Held
from shared.errors import ConfigurationError
from shared.events import Event, rfc3339
from shared.settings import Settings
from shared.stored_times import stored_time
from workers.admin import handler_catalog, queue_state
from workers.admin.backfill import EVENTS_A_STEP, Backfilling, Step
from workers.declaration import Handler
from workers.expand import subscriptions
from workers.expand.subscriptions import Subscriptions
from workers.handlers.sql import stored_events
from workers.handlers.sql.database_url import DatabaseUrl
from workers.handlers.sql.errors import DatabaseUnavailable

_PAUSE_SECONDS: Final = 0.2
_LONG_EVENTS: Final = 1000
# An event is offered after it was received, by clocks that need not agree.
_CLOCKS: Final = timedelta(hours=1)


class _Reading:
    """Counts the events that are read, and those of them that the handler wants."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.read = self.wanted = 0

    def wanted_of(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            self.read += 1
            if self._handler.wants(event):
                self.wanted += 1
                yield event


@click.command(cls=Command)
@click.argument("name", metavar="NAME")
@click.option("--since", type=history.Ago(), required=True, help="Events received since: 90s, 30m, 2h, 7d.")
@click.option("--until", type=history.Ago(), help="Only those received before then, likewise.")
@click.option("--kind", type=click.Choice(("report", "reply")), help="Only these; all that it takes otherwise.")
@click.option(
    "--most-waiting", type=click.IntRange(1000), default=20_000, show_default=True, help="Wait while more wait for it."
)
@click.option("--anyway", is_flag=True, help="Also what it was offered the usual way: that comes a second time.")
@click.option("--dry-run", is_flag=True, help="Count only.")
@shelf_options.as_json
def backfill(
    *,
    name: str,
    since: datetime,
    until: datetime | None,
    kind: str | None,
    most_waiting: int,
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
    with connected() as (loaded, client):
        handler = handler_catalog.find(name, loaded.handlers)
        address, kinds = _address(loaded), _kinds(handler, kind)
        offered = None if anyway else _offered(client, name)
        until = min(until or datetime.now(UTC), _latest(offered))
        if until <= since:
            raise click.UsageError(f"Nothing lies between {rfc3339(since)} and {rfc3339(until)}.")
        try:
            number = stored_events.count_events(address, kinds=kinds, since=since, until=until)
            if not as_json:
                click.echo(f"{number:,} events were received from {rfc3339(since)} to {rfc3339(until)}.")
            reading = _Reading(handler)
            events = reading.wanted_of(stored_events.read_events(address, kinds=kinds, since=since, until=until))
            if dry_run:
                steps = _counted(events)
            else:
                filling = Backfilling(client, name, offered=offered, dedupe_seconds=loaded.dedupe_seconds)
                steps = filling.give(events, before_each=_room(client, name, most_waiting))
            total = _summed(steps, reading, number)
        except DatabaseUnavailable as exc:
            raise click.ClickException(str(exc)) from exc
    _tell(name, reading, total, dry_run=dry_run, as_json=as_json)


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


def _offered(client: redis.Redis, name: str) -> Subscriptions:
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


def _latest(offered: Subscriptions | None) -> datetime:
    since_ms = None if offered is None else offered.since_ms
    return datetime.now(UTC) if since_ms is None else stored_time(since_ms) + _CLOCKS


def _room(client: redis.Redis, name: str, most: int) -> Callable[[], None]:
    """Give what waits until the next step fits: else a year of events would stand in Redis's memory."""
    held = Held(client, name)

    def wait() -> None:
        held.tell()
        while not queue_state.fewer_than(client, name, most - EVENTS_A_STEP + 1):
            time.sleep(_PAUSE_SECONDS)
            held.tell()

    return wait


def _counted(events: Iterator[Event]) -> Iterator[Step]:
    for number, _ in enumerate(events, start=1):
        if number % EVENTS_A_STEP == 0:
            yield Step(given=EVENTS_A_STEP)


def _summed(steps: Iterator[Step], reading: _Reading, number: int) -> Step:
    """Go through the steps, and show how many of the events are read."""
    total, shown = Step(), 0
    with click.progressbar(
        length=number, file=sys.stderr, hidden=number < _LONG_EVENTS or not sys.stderr.isatty(), show_pos=True
    ) as bar:
        for step in steps:
            bar.update(reading.read - shown)
            shown = reading.read
            total = Step(total.given + step.given, total.known + step.known, total.offered + step.offered)
        bar.update(reading.read - shown)
    return total


def _tell(name: str, reading: _Reading, total: Step, *, dry_run: bool, as_json: bool) -> None:
    unwanted = reading.read - reading.wanted
    if as_json:
        figures = {"read": reading.read, "filtered": unwanted, "wanted": reading.wanted, "dry_run": dry_run}
        if not dry_run:
            figures |= {"given": total.given, "given_before": total.known, "offered": total.offered}
        click.echo(msgspec.json.encode(figures))
        return
    if dry_run:
        click.echo(f"{name!r} would want {reading.wanted:,} of them; {unwanted:,} its filters keep from it.")
        click.echo("What it has had already would be left out of these. Nothing was changed: --dry-run.")
        return
    click.echo(f"{total.given:>12,}  enqueued for {name}")
    click.echo(f"{total.known:>12,}  given by an earlier backfill")
    click.echo(f"{total.offered:>12,}  offered the usual way")
    click.echo(f"{unwanted:>12,}  kept from it by its filters")
