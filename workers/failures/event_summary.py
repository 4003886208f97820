"""What says in a list which event it is: its kind, the id of its message, its status, a phone number."""

from typing import TypedDict

from shared.events import Event, ReplyEvent
from workers.handlers.number_mask import mask_number


class EventSummary(TypedDict):
    """`status` is that of a report, `number` the phone number of the message's recipient or of the reply's sender."""

    kind: str
    message_id: str | None
    status: str | None
    number: str | None


def summarize(event: Event) -> EventSummary:
    """Return what a list shows of an event. A number within its status is masked: no status has one by itself."""
    if isinstance(event, ReplyEvent):
        message_id = event.reply_message_id or event.req_uuid
        return EventSummary(kind=event.kind, message_id=message_id, status=None, number=event.sender)
    return EventSummary(
        kind=event.kind, message_id=event.message_id, status=mask_number(event.status), number=event.recipient
    )
