"""OpenTelemetry as this service uses it, the one module that imports it: spans begun and ended by hand, and exported.

Its own variables say where spans go, which are sampled and what the service is called; its own threads export them.
No error's text and no traceback is ever noted in a span (I9), so spans are never made by its context managers.
"""

import logging
import os
import threading
import time
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

Kind: TypeAlias = Literal["server", "producer", "consumer"]
Attributes: TypeAlias = Mapping[str, str | int]

# The end of a process waits so long for a collector; what it then has not taken is lost, and was spans only. It is
# what the supervisor's arithmetic has left over (see workers/deliver/call/lifespan.py).
FLUSH_SECONDS: Final = 1.0
SELDOM_SECONDS: Final = 60.0

log = logging.getLogger("callbacks.traces")

_KINDS: Final = {"server": SpanKind.SERVER, "producer": SpanKind.PRODUCER, "consumer": SpanKind.CONSUMER}
# As installed packages call them.
_OTLP: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_W3C: Final = TraceContextTextMapPropagator()


class Tracer:
    """Begins spans of one instrumentation scope."""

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
        """Begin a span below `parent`, a traceparent (W3C Trace Context); without one, or an invalid one, a trace.

        What the sampler does not want is a span too, which notes nothing: `is_recording()` tells. `start_ns` is since
        1970; None: now.
        """
        context = _W3C.extract({"traceparent": parent}, Context()) if parent else Context()
        return self._tracer.start_span(name, context, _KINDS[kind], attributes, start_time=start_ns)

    @staticmethod
    def traceparent(span: Span) -> str:
        """Give what names `span` as a parent: 55 characters of version, trace, span and flags (W3C Trace Context)."""
        context = span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    @staticmethod
    def link(span: Span, first: Span) -> None:
        """Say that `span` shared its work with `first`, which is another callback's, or another event's."""
        span.add_link(first.get_span_context())

    @staticmethod
    def mark_failed(span: Span, error_type: str) -> None:
        """Say that what `span` stands for failed: `error_type` is an error's type or its status, never its text."""
        span.set_attribute("error.type", error_type)
        span.set_status(Status(StatusCode.ERROR))

    @staticmethod
    def current(span: Span) -> AbstractContextManager[Any]:
        """Make `span` the parent of what a handler's own code begins meanwhile."""
        return trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)

    def close(self) -> None:
        """Export what is left, in FLUSH_SECONDS, and end. Blocks."""
        # The provider's own time limit is 30 s. What hangs in its thread then ends with the process.
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS)


def start(scope: str) -> Tracer:
    """Set up OpenTelemetry from its variables. Raises LookupError for an exporter that is not installed, ValueError."""
    _Trouble.take_over()
    provider = TracerProvider(resource=Resource.create(_named()), shutdown_on_exit=False)
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "").split(",") or [""]:
        provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip())))
    # Handlers find it by opentelemetry's own functions; it stays theirs if something else has set one up before.
    trace.set_tracer_provider(provider)
    return Tracer(provider, scope)


def _exporter(name: str) -> SpanExporter:
    """Make the exporter that the specification calls `name`; "" is "otlp". `callbacks[otel]` brings that over HTTP."""
    if name in ("", "otlp"):
        told = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        name = _OTLP[told or "http/protobuf"]
    found = entry_points(group="opentelemetry_traces_exporter", name=name)
    if not found:
        raise LookupError(name)
    exporter: SpanExporter = next(iter(found)).load()()
    return exporter


def _named() -> dict[str, str]:
    """Give the service's name where nobody has given it one: what is passed on here wins over the variables."""
    told = f"{os.environ.get('OTEL_SERVICE_NAME', '')},{os.environ.get('OTEL_RESOURCE_ATTRIBUTES', '')}"
    is_named = bool(os.environ.get("OTEL_SERVICE_NAME")) or "service.name=" in told
    return {} if is_named else {"service.name": "callbacks"}


class _Trouble(logging.Handler):
    """Tells once in SELDOM_SECONDS that OpenTelemetry complains, and where: a text of its own may quote anything."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next_seconds = 0.0
        self._untold = 0

    @classmethod
    def take_over(cls) -> None:
        theirs = logging.getLogger("opentelemetry")
        theirs.handlers[:] = [cls()]
        theirs.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self._untold += 1
        if time.monotonic() < self._next_seconds:
            return
        self._next_seconds = time.monotonic() + SELDOM_SECONDS
        log.warning("action=traces_trouble count=%d where=%s:%d", self._untold, record.name, record.lineno)
        self._untold = 0
