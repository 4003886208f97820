"""`callbacks messages`: a list of messages from the tables of the handler `sql`, as text, JSON or CSV."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import click

from callbacks.cli import message_history
from callbacks.cli.age import Age
from callbacks.cli.command import Command
from callbacks.cli.job_text import job_line
from callbacks.cli.numbers_option import numbers_option
from callbacks.cli.terminal_text import short
from shared.csv_text import csv_line
from shared.events import known_status
from workers.admin import message_forms
from workers.admin.message_forms import Numbers
from workers.handlers.sql.history import History
from workers.handlers.sql.history_results import Message
from workers.handlers.sql.jobs import read_jobs


@click.command(cls=Command)
@click.option("--to", "recipient", metavar="NUMBER", help="Only messages to this number, however it is written.")
@click.option("--status", "statuses", multiple=True, help="Only messages with this current status; may be repeated.")
@click.option(
    "--since", type=Age(), help="Only messages with callbacks since then: 90s, 30m, 2h, 7d, or 2026-01-31T18:00 in UTC."
)
@click.option("--job", metavar="ID", help="Only messages of this job (api_job_id or client_job_id), and their summary.")
@click.option(
    "--overdue",
    "overdue_before",
    type=Age(),
    help="Only messages without a final status whose first report is older: 24h, 2d. The oldest is first.",
)
@click.option("--limit", "limit", type=click.IntRange(1), default=50, show_default=True, help="List at most this many.")
@numbers_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header line.")
def messages(
    *,
    recipient: str | None,
    statuses: tuple[str, ...],
    since: datetime | None,
    job: str | None,
    overdue_before: datetime | None,
    limit: int,
    numbers: Numbers,
    as_json: bool,
    as_csv: bool,
) -> None:
    """List messages and their current status, the most recent callback first.

    With --overdue the message that has waited longest is first. A message of which no report ever came is unknown here.
    """
    if as_json and as_csv:
        raise click.UsageError("Use --json or --csv, not both.")
    with message_history.open_connection() as connection:
        if job is not None and not (as_json or as_csv):
            for one in read_jobs(connection, overdue_before=message_history.overdue_before(), job=job, limit=limit):
                click.echo(job_line(one))
        listed = History(connection).messages(
            recipient=recipient,
            statuses=list(map(known_status, statuses)),
            since=since,
            job=job,
            overdue_before=overdue_before,
            limit=limit,
        )
        rows = (message_forms.mask_message(message, numbers) for message in listed)
        if as_csv:
            _print_csv(rows)
            return
        for number_printed, row in enumerate(rows):
            if not number_printed and not as_json:
                click.echo(_HEADS)
            click.echo(message_history.to_json(row) if as_json else _as_text(row))


_HEADS: Final = f"{'message':36}  {'status since':24} {'status':8} {'channel':8}  to"


def _as_text(row: Message) -> str:
    return (
        f"{short(row.message_id):36}  {message_history.format_time(row.status_at)}  {short(row.status):8} "
        f"{short(row.channel or '-'):8}  {short(row.recipient or '-')}"
    )


def _print_csv(rows: Iterable[Message]) -> None:
    names = Message.__struct_fields__
    click.echo(csv_line(names), nl=False)
    for row in rows:
        click.echo(csv_line(getattr(row, name) for name in names), nl=False)
