"""A number, a text, and handlers that quote an event in what they raise, in each way that a handler may fail."""

from typing import Final

NUMBER: Final = "436641730954"
TEXT: Final = "Zwetschgenknödel bitte, morgen um acht"
HANDLERS: Final = """
from callbacks import Pause, Reject, ReplyEvent, ReportEvent, Retry, handler

def quote(event):
    text = getattr(event, "text", None)
    return f"no customer {event.sender} / {event.recipient} / +{event.recipient}: {text!r} {event}"

@handler(ReportEvent, ReplyEvent, attempts=1)
def raising(event):
    raise ValueError(quote(event))

@handler(ReportEvent, ReplyEvent)
def rejecting(event):
    raise Reject(quote(event))

@handler(ReportEvent, ReplyEvent)
def retrying(event):
    raise Retry(after_seconds=3600, reason=quote(event))

@handler(ReplyEvent)
def pausing(event):
    raise Pause(3600, reason=quote(event))
"""
