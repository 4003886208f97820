"""The public package, all that a handler imports: `from callbacks import ReportEvent, handler`.

    callbacks.testing   a worker without a queue, and the checks that each handler should pass
    callbacks.samples   events to try a handler with
    callbacks.history   what happened to a message, from the tables of the handler `sql`
    callbacks.phone_numbers  compare phone numbers by their digits
    callbacks.number_search  search texts for phone numbers
    callbacks.opt_outs  whether a reply says STOP or START
    callbacks.redis     connections to any Redis that REDIS_URL can name
    callbacks.disk      bring a file to the disk, on Linux and on macOS
    callbacks.log       loggers whose lines have an action and fields
    callbacks.restore    restores events from the records that a handler has stored

Each name is loaded at its first use (PEP 562), because the command line is in this package too and `callbacks web` must
load nothing of `workers`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from shared.events import Event, ReplyEvent, ReportEvent
    from workers.declaration import handler
    from workers.signals import Delivered, HandlerTimeout, Pause, Reject, Retry

__all__ = ["Delivered", "Event", "HandlerTimeout", "Pause", "Reject", "ReplyEvent", "ReportEvent", "Retry", "handler"]

_MODULES: Final = {
    "Delivered": "workers.signals",
    "Event": "shared.events",
    "HandlerTimeout": "workers.signals",
    "Pause": "workers.signals",
    "Reject": "workers.signals",
    "ReplyEvent": "shared.events",
    "ReportEvent": "shared.events",
    "Retry": "workers.signals",
    "handler": "workers.declaration",
}


def __getattr__(name: str) -> Any:
    """Load and return a public name. Raise AttributeError for any other."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
