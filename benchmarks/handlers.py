"""A handler that does nothing, so that a drain measures everything but it."""

from callbacks import Event, ReplyEvent, ReportEvent, handler


@handler(ReportEvent, ReplyEvent)
def nothing(_event: Event) -> None:
    """Do nothing."""
