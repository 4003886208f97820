"""Traces: one for a callback, from its POST over the commit and its expansion to each delivery of its events.

It finds its way by W3C's `traceparent`, written where every release reads past it: a callback in its job, and an event
in its deliveries, is a JSON array in the order of the fields, and msgspec ignores what follows the last one. Only what
is sampled carries it, so nothing else is stored differently by a byte, and a process that was not told to trace works
on it as on any other. (Ids derived from what both sides know were the other way: a callback and its events have no
digest in common that the web process could make without reading every record, and two posts of the same body in one
millisecond would be one. A field of the job's hash would have to be split by the script that fans events out.)

Nothing here imports OpenTelemetry before its own variables ask for it (`is_enabled`).
"""

import importlib
import logging
import os
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from shared.tracer import Tracer

log = logging.getLogger("callbacks.traces")

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def start(scope: str) -> "Tracer | None":
    """Give what makes this process's spans, as the instrumentation scope `scope`; None if nobody asked for traces.

    None too, with a line in the log, if the packages are missing or their variables are wrong: a service without
    traces is better than none. What is started here ends with its `close`.
    """
    if not is_enabled():
        return None
    try:
        tracer: Tracer = importlib.import_module("shared.tracer").start(scope)
    except ModuleNotFoundError as exc:
        log.warning("action=traces_off missing=%s: pip install 'callbacks[otel]'", exc.name)
    except (ValueError, LookupError, OSError, ImportError) as exc:
        # Their texts may quote a variable, and one of these holds the collector's password.
        log.warning("action=traces_off error=%s: look at the variables OTEL_*", type(exc).__name__)
    else:
        return tracer
    return None


def messaging_attributes(queue: str, operation: str, *, kind: Literal["send", "process"]) -> dict[str, str | int]:
    """Give the attributes of a span that puts into a queue or works on what was in one.

    See OpenTelemetry's semantic conventions for messaging: `operation` is our word for it, `kind` theirs.
    """
    return {
        "messaging.system": "rq",
        "messaging.destination.name": queue,
        "messaging.operation.type": kind,
        "messaging.operation.name": operation,
    }


def is_enabled() -> bool:
    """Whether OpenTelemetry's variables ask for traces: an exporter is named, or an endpoint, and nothing disabled.

    See its specification, "Environment Variable Specification".
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter:
        return exporter != "none"
    return any(os.environ.get(name, "").strip() for name in _ENDPOINTS)
