"""Spans of OpenTelemetry: started and ended by hand, and exported. No other module imports OpenTelemetry.

OpenTelemetry's own variables say where spans go, which are sampled and what the service is called; its own threads
export them. No span holds an error's text or a traceback (I9), so none is made by OpenTelemetry's context managers.
"""

import logging
import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import Any, Final, Literal, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.rate_limited_log import EXCEPTION_INTERVAL_SECONDS, RateLimitedLog
from shared.structured_log import get_logger

Kind: TypeAlias = Literal["server", "consumer"]
Attributes: TypeAlias = Mapping[str, str | int]

# How long the end of a process waits for a collector. Spans that it has not taken by then are lost. The supervisor's
# arithmetic leaves this much time (see workers/deliver/call/lifespan.py).
FLUSH_SECONDS: Final = 1.0

log = get_logger("callbacks.traces")

_KINDS: Final = {"server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER}
# As installed packages call them.
_OTLP: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_W3C: Final = TraceContextTextMapPropagator()


class Tracer:
    """Starts spans of one instrumentation scope."""

    def __init__(self, provider: TracerProvider, scope: str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(scope)

    def start_span(
        self,
        name: str,
        kind: Kind,
        *,
        parent: str = "",
        attributes: Attributes | None = None,
        start_ns: int | None = None,
    ) -> Span:
        """Start a span below `parent`, a traceparent (W3C Trace Context). Without a valid one it starts a trace.

        A span that the sampler does not want records nothing; its `is_recording()` is false. `start_ns` counts from
        1970; None: now.
        """
        context = _W3C.extract({"traceparent": parent}, Context()) if parent else Context()
        return self._tracer.start_span(name, context, _KINDS[kind], attributes, start_time=start_ns)

    @staticmethod
    def traceparent(span: Span) -> str:
        """Return the traceparent of `span`: version, trace, span and flags, 55 characters (W3C Trace Context)."""
        context = span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    @staticmethod
    def link(span: Span, first: Span) -> None:
        """Link `span` to `first`, the span of another callback or event with which it shared its work."""
        span.add_link(first.get_span_context())

    @staticmethod
    def mark_failed(span: Span, error_type: str) -> None:
        """Mark `span` as failed. `error_type` is the type of an error or its status, never its text."""
        span.set_attribute("error.type", error_type)
        span.set_status(Status(StatusCode.ERROR))

    @staticmethod
    def current(span: Span) -> AbstractContextManager[Any]:
        """Return a context in which `span` is the parent of the spans that a handler's own code starts."""
        return trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)

    def close(self) -> None:
        """Export the remaining spans and stop. Blocks for at most FLUSH_SECONDS."""
        # The provider's own limit is 30 s. If it hangs, its daemon thread ends with the process.
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS)


def start(scope: str) -> Tracer:
    """Set up OpenTelemetry from its variables, and return its tracer.

    Raise LookupError for an exporter that is not installed, and ValueError for a wrong variable.
    """
    _WarningHandler.install()
    provider = TracerProvider(resource=Resource.create(_service_name()), shutdown_on_exit=False)
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "").split(",") or [""]:
        provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip())))
    # Handlers find it by OpenTelemetry's own functions. A provider that was set before stays in place.
    trace.set_tracer_provider(provider)
    return Tracer(provider, scope)


def _exporter(name: str) -> SpanExporter:
    """Return a new exporter of the specification's `name`; "" is "otlp". The extra `otel` installs that of HTTP."""
    if name in ("", "otlp"):
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        name = _OTLP[protocol or "http/protobuf"]
    found = entry_points(group="opentelemetry_traces_exporter", name=name)
    if not found:
        raise LookupError(name)
    exporter: SpanExporter = next(iter(found)).load()()
    return exporter


def _service_name() -> dict[str, str]:
    """Return the attribute for the service's name, if no variable sets it: attributes win over the variables."""
    given = f"{os.environ.get('OTEL_SERVICE_NAME', '')},{os.environ.get('OTEL_RESOURCE_ATTRIBUTES', '')}"
    is_named = bool(os.environ.get("OTEL_SERVICE_NAME")) or "service.name=" in given
    return {} if is_named else {"service.name": "callbacks"}


class _WarningHandler(logging.Handler):
    """Logs that OpenTelemetry warns of something, and where. Its own text may quote anything, so it is left out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._limited_log = RateLimitedLog(log, interval_seconds=EXCEPTION_INTERVAL_SECONDS)

    @classmethod
    def install(cls) -> None:
        """Replace the handlers of OpenTelemetry's loggers."""
        logger = logging.getLogger("opentelemetry")
        logger.handlers[:] = [cls()]
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self._limited_log.warning("traces_trouble", where=f"{record.name}:{record.lineno}")
