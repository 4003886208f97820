"""`callbacks message`: one message with its statuses and replies, from the tables of `sql`. Exit 1 if it is unknown."""

import click

from callbacks.cli import message_history
from callbacks.cli.command import Command
from callbacks.cli.numbers_option import Numbers, numbers_option
from callbacks.cli.terminal_text import short
from shared.counted import counted
from workers.handlers.sql.history import Timeline


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
    """Show every status of the message ID, and the replies to it. ID: the gateway's, the client's, or that of a job."""
    with message_history.open_history() as found:
        timelines, total = found.find(identifier, limit=limit)
    if not timelines:
        raise click.ClickException(f"no message and no job has the id {short(identifier)!r}")
    for timeline in (message_history.mask_timeline(one, numbers) for one in timelines):
        click.echo(message_history.to_json(timeline) if as_json else _as_text(timeline))
    if total > len(timelines) and not as_json:
        click.echo(f"{counted(total - len(timelines), 'more message')}: --limit {total}")


def _as_text(timeline: Timeline) -> str:
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
    for reply in timeline.replies:
        said = "(no text)" if reply.text is None else short(reply.text)
        times = f"{message_history.format_time(reply.occurred_at)}  {message_history.format_time(reply.received_at)}"
        lines.append(f"  {times}  reply    {said}")
    return "\n".join(lines)
