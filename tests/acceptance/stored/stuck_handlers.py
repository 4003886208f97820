"""A handler that waits in a call. Its workers have a supervisor of their own, so nobody takes over its jobs."""

from callbacks import ReportEvent, handler
from tests.acceptance.stored import shop_handlers


@handler(ReportEvent, statuses={"UNKNOWN"}, timeout_seconds=3600, batch=True)
def stuck(events: list[ReportEvent]) -> None:
    """Wait with the events of all jobs that were claimed at once."""
    for event in events:
        shop_handlers.wait_at_last("stuck", event)
    for event in events:
        shop_handlers.finish("stuck", event)
