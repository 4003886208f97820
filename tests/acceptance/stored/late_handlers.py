"""Handlers that are named later than the others: one gets past events by `callbacks backfill`, one dies."""

from callbacks import Event, ReplyEvent, ReportEvent, handler
from tests.acceptance.stored import shop_handlers


@handler(ReportEvent, ReplyEvent)
def fresh(event: Event) -> None:
    """Finish each event."""
    shop_handlers.finish("fresh", event)


@handler(ReportEvent, statuses={"DELETED"})
def killed(event: ReportEvent) -> None:
    """Finish each event but the last, and kill the worker and its supervisor there."""
    shop_handlers.die_at_last(event)
    shop_handlers.finish("killed", event)
