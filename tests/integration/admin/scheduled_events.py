"""Events that failed at the handler `single`, and wait an hour for their retries."""

from typing import Final

from callbacks import ReportEvent, Retry
from tests.integration.harness import Harness
from tests.integration.scripted_handlers import accept_and_expand, script, single
from workers.admin.retry_rows import RetryFilter, RetryRow
from workers.admin.scheduled_retries import ScheduledRetries

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
