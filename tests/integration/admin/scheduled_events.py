"""Events that failed at `single` and wait an hour for their retries, and what `callbacks retries` does with them."""

from typing import Final

from click.testing import CliRunner, Result

from callbacks import ReportEvent, Retry
from callbacks.cli.main import main
from shared import queue_jobs, queues
from tests.integration.harness import Harness
from tests.integration.scripted_handlers import accept_and_expand, script, single
from workers.admin.retry_rows import RetryFilter, RetryRow
from workers.admin.scheduled_retries import ScheduledRetries

QUEUE: Final = queues.delivery_queue("single")
OF_SINGLE: Final = RetryFilter(handler="single")


def closed(event: ReportEvent) -> None:
    raise Retry(3600, reason="shop is closed")


def fail(harness: Harness, *message_ids: str) -> list[RetryRow]:
    """Let these events fail at `single` and wait an hour for their retries; return those of `single`."""
    accept_and_expand(harness, *message_ids)
    script.act = closed
    harness.deliver(single)
    return rows(harness)


def rows(harness: Harness, wanted: RetryFilter = OF_SINGLE) -> list[RetryRow]:
    return list(ScheduledRetries(harness.connection).iterate(wanted))


def callbacks(*arguments: str, text: str | None = None) -> Result:
    """Run `callbacks retries` with these arguments, and `text` as its input."""
    return CliRunner().invoke(main, ("retries", *arguments), input=text)


def locations(harness: Harness) -> list[str]:
    """Return the id of the event of each job that waits or is scheduled."""
    jobs = queue_jobs.read_jobs(harness.connection, QUEUE)
    return sorted(
        event[1]
        for job_id in (*jobs.waiting, *jobs.scheduled_at)
        for _, event in queue_jobs.read_delivery_job(harness.connection, job_id).events
    )
