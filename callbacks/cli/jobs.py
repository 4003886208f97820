"""`callbacks jobs`: what became of the messages of each job, from the tables of the handler `sql`."""

from datetime import datetime
from typing import Final

import click

from callbacks.cli import message_history
from callbacks.cli.age import Age
from callbacks.cli.command import Command
from callbacks.cli.job_text import job_line
from workers.handlers.sql.jobs import read_jobs

_SINCE: Final = "7d"


@click.command(cls=Command)
@click.argument("job", metavar="[ID]", required=False)
@click.option(
    "--since",
    type=Age(),
    help=f"Messages first seen since then: 30m, 2h, 7d, or 2026-01-31T18:00 in UTC.  [default: {_SINCE}; with ID: all]",
)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="List at most this many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
def jobs(*, job: str | None, since: datetime | None, limit: int, as_json: bool) -> None:
    """List jobs, or one by its ID, with how many of their messages are final, overdue and delivered.

    A job is a send request; ID is its api_job_id or client_job_id. `sent` counts the messages of which a report was
    received: of others nothing is known here. A message is overdue if it has no final status CALLBACKS_OVERDUE_SECONDS
    (a day) after its first report.
    """
    if since is None and job is None:
        since = Age().convert(_SINCE, None, None)
    before = message_history.overdue_before()
    with message_history.open_connection() as connection:
        found = read_jobs(connection, overdue_before=before, since=since, job=job, limit=limit)
    if job is not None and not found:
        raise click.ClickException(f"no message of a job {job!r} is known")
    for one in found:
        click.echo(message_history.to_json(one) if as_json else job_line(one))
