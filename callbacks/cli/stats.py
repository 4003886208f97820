"""`callbacks stats`: counts of messages by job and day, from the tables of the handler `sql`."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import click

from callbacks.cli import message_history
from callbacks.cli.age import Age
from callbacks.cli.command import Command
from callbacks.cli.job_text import job_name
from callbacks.cli.terminal_text import short
from shared.counted import counted
from workers.handlers.sql.history_results import Stats, Totals

# Nobody reads more; --json has all.
_MAX_JOBS: Final = 20


@click.command(cls=Command)
@click.option(
    "--since",
    type=Age(),
    default="7d",
    show_default=True,
    help="Messages first seen since then: 30m, 2h, 7d, or 2026-01-31T18:00 in UTC.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def stats(*, since: datetime, as_json: bool) -> None:
    """Count messages by current status for each day and job; show the delivery rate and time."""
    with message_history.open_history() as found:
        totals = found.stats(since=since)
    click.echo(message_history.to_json(totals) if as_json else "\n".join(_as_text(totals)))


def _as_text(totals: Stats) -> Iterator[str]:
    yield f"all: {_line(totals.total)}"
    times = totals.seconds_to_deliver
    if times.p50 is not None and times.p95 is not None:
        of = counted(times.messages, "message")
        yield f"time to deliver: {times.p50:,.1f} s p50, {times.p95:,.1f} s p95, of {of}"
    for day in totals.days:
        yield f"{day.day}: {_line(day.totals)}"
    for job in totals.jobs[:_MAX_JOBS]:
        yield f"job {job_name(job.client_job_id, job.api_job_id)}: {_line(job.totals)}"
    if len(totals.jobs) > _MAX_JOBS:
        yield f"{counted(len(totals.jobs) - _MAX_JOBS, 'more job')}: --json"


def _line(totals: Totals) -> str:
    if totals.delivery_rate is None:
        return "no messages"
    counts = ", ".join(f"{number:,} {short(status)}" for status, number in totals.statuses.items())
    return f"{counted(totals.messages, 'message')}, {totals.delivery_rate:.1%} delivered: {counts}"
