"""Traces: one for a callback, from its POST through its expansion to each delivery of its events.

W3C's `traceparent` carries a trace from process to process. A callback in its job, and an event in its deliveries, is
a JSON array in the order of the fields, and msgspec ignores what follows the last one: there it stands. Only a sampled
callback or event has it; all others are stored without a byte more, and a process without traces reads both alike.
(Two other ways were rejected. An id derived from what both sides know: a callback and its events have no digest in
common that the web process could compute without reading every record, and two posts of the same body in one
millisecond would be one. A field of the job's hash: the script that fans events out would have to split it.)

Nothing here imports OpenTelemetry unless its own variables ask for it (`is_enabled`).
"""

import importlib
import os
from typing import TYPE_CHECKING, Final

from callbacks.distribution import install_command
from shared.structured_log import get_logger

if TYPE_CHECKING:
    from shared.tracer import Tracer

log = get_logger("callbacks.traces")

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def start(scope: str) -> "Tracer | None":
    """Return the tracer of this process for the instrumentation scope `scope`; None if traces are not asked for.

    None too, with a line in the log, if the packages are missing or their variables are wrong: the service must work
    without traces. The caller ends the tracer with its `close`.
    """
    if not is_enabled():
        return None
    try:
        tracer: Tracer = importlib.import_module("shared.tracer").start(scope)
    except ModuleNotFoundError as exc:
        log.warning("traces_off", missing=exc.name, remedy=install_command("otel"))
    except (ValueError, LookupError, OSError, ImportError) as exc:
        # Without their texts: these may quote a variable, and one variable holds the collector's password.
        log.warning("traces_off", error=type(exc).__name__, remedy="check the variables OTEL_*")
    else:
        return tracer
    return None


def trace_id(traceparent: str) -> str:
    """Return the id of the trace that a traceparent names, "" for ""."""
    return traceparent.split("-")[1] if traceparent.count("-") == 3 else ""  # noqa: PLR2004 # as W3C writes it


def messaging_attributes(queue: str, operation: str) -> dict[str, str | int]:
    """Return the attributes of a span that processes messages from a queue; `operation` is our word for it.

    See OpenTelemetry's semantic conventions for messaging.
    """
    return {
        "messaging.system": "rq",
        "messaging.destination.name": queue,
        "messaging.operation.type": "process",
        "messaging.operation.name": operation,
    }


def is_enabled() -> bool:
    """Return whether OpenTelemetry's variables ask for traces: an exporter or endpoint is named, and not disabled.

    See OpenTelemetry's "Environment Variable Specification".
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter:
        return exporter != "none"
    return any(os.environ.get(name, "").strip() for name in _ENDPOINTS)
