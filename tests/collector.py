"""A collector of OpenTelemetry's spans on loopback: takes OTLP over HTTP, and reads it by its published schema."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Exported

from tests.integration.runtime.pools import until

_ERROR: Final = 2  # STATUS_CODE_ERROR


@dataclass(frozen=True)
class Span:
    """A span as it arrived; ids in hexadecimal digits, `parent` and the traces' names likewise, "" without one."""

    name: str
    kind: str
    scope: str
    service: str
    trace: str
    id: str
    parent: str
    attributes: Mapping[str, str | int]
    links: tuple[str, ...]
    events: int
    is_error: bool
    message: str


@dataclass
class Collector:
    """What has arrived, at `url`."""

    url: str
    spans: list[Span] = field(default_factory=list)
    raw: bytes = b""

    def environment(self) -> dict[str, str]:
        """Return the variables that send a process's spans here, at once."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def named(self, name: str) -> list[Span]:
        """Return the spans of one name, in the order in which they arrived."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        """Return the only span of a name, when it has arrived: processes export theirs in any order."""
        until(lambda: self.named(name), f"a span {name}")
        (span,) = self.named(name)
        return span


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.raw += body
            collector.spans += _read(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _read(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        (service,) = (pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span(span, scope=scope.scope.name, service=service)


def _span(span: Exported, *, scope: str, service: str) -> Span:
    return Span(
        name=span.name,
        kind=Exported.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        scope=scope,
        service=service,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes={
            pair.key: pair.value.int_value if pair.value.HasField("int_value") else pair.value.string_value
            for pair in span.attributes
        },
        links=tuple(link.span_id.hex() for link in span.links),
        events=len(span.events),
        is_error=span.status.code == _ERROR,
        message=span.status.message,
    )
