"""What the author of a handler imports, and nothing else: `from callbacks import ReportEvent, handler`.

    callbacks.testing   a worker without a queue, and the checks that every handler should pass
    callbacks.samples   events to try a handler with
    callbacks.redis     connections to every address that REDIS_URL may be
    callbacks.restore    events made again from the records that a handler has kept

Each name is loaded when it is first used (PEP 562): the command line lies below this package, and `callbacks web` must
load nothing of `workers`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from shared.events import Event, ReplyEvent, ReportEvent
    from workers.declaration import handler
    from workers.signals import HandlerTimeout, Pause, Reject, Retry

__all__ = ["Event", "HandlerTimeout", "Pause", "Reject", "ReplyEvent", "ReportEvent", "Retry", "handler"]

_MODULES: Final = {
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
    """Return a public name, loaded now. Raise AttributeError for any other."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
