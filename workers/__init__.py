"""All that a handler's author needs, and the only thing a handler imports. It loads neither RQ nor Redis.

from workers import Pause, Reject, ReplyEvent, ReportEvent, Retry, handler
"""

from shared.events import Event, ReplyEvent, ReportEvent
from workers.declaration import handler
from workers.signals import HandlerTimeout, Pause, Reject, Retry

__all__ = ["Event", "HandlerTimeout", "Pause", "Reject", "ReplyEvent", "ReportEvent", "Retry", "handler"]
