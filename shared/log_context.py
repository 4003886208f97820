"""What a handler's call adds to each line that is logged during it: the handler, the event, the trace."""

import sys
from contextvars import ContextVar
from typing import Any, Final

# The handler's name, and the event's id; None for a call with a batch.
call: Final[ContextVar[tuple[str, str | None] | None]] = ContextVar("callbacks_call", default=None)


def fields() -> dict[str, Any]:
    """Return what the lines of this moment have in common; empty outside a handler's call."""
    current = call.get()
    if current is None:
        return {}
    handler, event_id = current
    return {"handler": handler, "event": event_id, "trace": _trace_id()}


def _trace_id() -> str | None:
    # Not imported here: only a process with traces has imported it.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
