"""Spans are exported in the background: nothing waits for an exporter, except the end, for a limited time."""

import threading
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from shared import events
from shared.tracer import Tracer
from tests.integration.runtime.pools import until
from tests.unit.example_events import report

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


class Hanging(SpanExporter):
    """Neither exports nor ends before `released`."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.released = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.released.wait()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.released.wait()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    exporter = Hanging()
    yield exporter
    exporter.released.set()


def test_neither_a_span_nor_the_end_of_a_process_waits_for_a_hanging_exporter(hanging: Hanging) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(hanging, max_queue_size=10, max_export_batch_size=5))
    tracer = Tracer(provider, "test")

    def work() -> None:
        for _ in range(100):
            tracer.start_span("span", "server").end()
        assert hanging.asked.wait()
        for _ in range(100):
            tracer.start_span("span", "server").end()
        tracer.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    until(lambda: not thread.is_alive(), "something waits for the exporter")
    assert not hanging.released.is_set()


@pytest.mark.parametrize("parent", ["", "nonsense", f"00-{'0' * 32}-{'b' * 16}-01", f"00-{'a' * 32}-{'b' * 16}"])
def test_without_a_valid_parent_a_span_starts_a_trace(parent: str) -> None:
    tracer = Tracer(TracerProvider(shutdown_on_exit=False), "test")
    span = tracer.start_span("span", "server", parent=parent)
    assert tracer.traceparent(span)[3:35] not in ("a" * 32, "0" * 32)
    child = tracer.start_span("child", "consumer", parent=tracer.traceparent(span))
    assert tracer.traceparent(child)[:35] == tracer.traceparent(span)[:35]


def test_an_events_trace_is_invisible_to_its_readers() -> None:
    event = report()
    encoded = events.encode(event)
    traced = events.with_trace(encoded, TRACE)
    assert events.decode(b"[%b,%b]" % (encoded, traced)) == [event, event]
    assert [events.read_trace(one) for one in (encoded, traced)] == ["", TRACE]
