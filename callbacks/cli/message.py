"""`callbacks message`: one message with its statuses and replies, and what became of each at each handler.

The statuses come from the tables of `sql`, the deliveries from Redis. An event is found by its id without `sql` too.
Exit 1 if the message is unknown.
"""

import click
import msgspec

from callbacks.cli import message_deliveries, message_history
from callbacks.cli.command import Command
from callbacks.cli.message_deliveries import Deliveries
from callbacks.cli.numbers_option import numbers_option
from callbacks.cli.terminal_text import short
from shared.counted import counted
from shared.events import to_unix_ms
from workers.admin import message_forms
from workers.admin.message_forms import EventDeliveriesForm, Numbers, delivery_form, to_plain
from workers.handlers.sql.history_results import Reply, Status, Timeline


@click.command(cls=Command)
@click.argument("identifier", metavar="ID")
@click.option(
    "--limit",
    "limit",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="At most this many messages of a job.",
)
@numbers_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line: a message with its timeline.")
def message(*, identifier: str, limit: int, numbers: Numbers, as_json: bool) -> None:
    """Show every status of the message ID, the replies to it, and what became of each at each handler.

    ID: the gateway's, the client's, that of a job, or that of an event. Each attempt to deliver is shown with its time,
    duration, error and next attempt, as far back as the delivery log goes.
    """
    try:
        with message_history.open_history() as found:
            timelines, total = found.find(identifier, limit=limit)
    except click.ClickException:
        if not _print_event(identifier, as_json=as_json):
            raise
        return
    if not timelines:
        if _print_event(identifier, as_json=as_json):
            return
        raise click.ClickException(f"no message, no job and no event has the id {short(identifier)!r}")
    deliveries = message_deliveries.read_deliveries(
        {event.event_id: to_unix_ms(event.received_at) for timeline in timelines for event in _events(timeline)}
    )
    for timeline in (message_forms.mask_timeline(one, numbers) for one in timelines):
        click.echo(_as_json(timeline, deliveries) if as_json else _as_text(timeline, deliveries))
    if deliveries.problem:
        click.echo(f"Deliveries are not shown: {deliveries.problem}", err=True)
    if total > len(timelines) and not as_json:
        click.echo(f"{counted(total - len(timelines), 'more message')}: --limit {total}")


def _print_event(event_id: str, *, as_json: bool) -> bool:
    """Print the deliveries of an event; return False if it has none, or if this is not an event's id."""
    found = message_deliveries.read_event(event_id).of([event_id])
    if not found:
        return False
    if as_json:
        form = EventDeliveriesForm(event_id=event_id, deliveries=list(map(delivery_form, found)))
        click.echo(msgspec.json.encode(to_plain(form)))
    else:
        click.echo("\n".join((f"event {event_id}", *(f"  {line}" for line in message_deliveries.as_lines(found)))))
    return True


def _events(timeline: Timeline) -> list[Status | Reply]:
    return [*timeline.statuses, *timeline.replies]


def _as_json(timeline: Timeline, deliveries: Deliveries) -> bytes:
    plain = to_plain(timeline)
    if not deliveries.problem:
        found = deliveries.of(event.event_id for event in _events(timeline))
        plain["deliveries"] = [to_plain(delivery_form(one)) for one in found]
    return msgspec.json.encode(plain)


def _as_text(timeline: Timeline, deliveries: Deliveries) -> str:
    known = timeline.message
    # A plan with a fall-back goes on by another channel.
    final = f" (final on {short(known.channel or 'its channel')})" if known.is_final else ""
    lines = [f"{short(known.message_id)}  {short(known.status)}{final}"]
    for label, value in (
        ("to", known.recipient),
        ("from", known.sender),
        ("job", known.api_job_id),
        ("client's job", known.client_job_id),
        ("client's id", known.client_message_id),
        ("source", known.source),
    ):
        if value is not None:
            lines.append(f"  {label:13} {short(value)}")
    lines.append(f"  {'occurred':24}  {'received':24}  status")
    for status in timeline.statuses:
        code = "" if not status.error_code else f"  error {status.error_code}"
        lines.append(
            f"  {message_history.format_time(status.occurred_at)}  {message_history.format_time(status.received_at)}  "
            f"{short(status.status):8} {short(status.channel or '-')}{code}"
        )
        lines += (f"      {line}" for line in message_deliveries.as_lines(deliveries.of([status.event_id])))
    for reply in timeline.replies:
        said = "(no text)" if reply.text is None else short(reply.text)
        times = f"{message_history.format_time(reply.occurred_at)}  {message_history.format_time(reply.received_at)}"
        lines.append(f"  {times}  reply    {said}")
        lines += (f"      {line}" for line in message_deliveries.as_lines(deliveries.of([reply.event_id])))
    return "\n".join(lines)
