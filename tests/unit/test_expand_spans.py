"""The spans of expansion: each counts its own callback's events and records and links to the first of its run."""

from collections.abc import Iterator

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.batches import Accepted, TracedAccepted
from shared.tracer import Tracer
from workers.expand.fan_out import FanOutGroup, RecordResult
from workers.expand.spans import ExpandSpans
from workers.runtime.settlement import FanOutEvents, NewFailure

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNREADABLE = {name: NewFailure(f"key of {name}", name, 1, 60, {}, "report", 2) for name in ("a", "b")}
OFFER = FanOutEvents("report", "10", ["mark"], [b'["report"]'])


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    made = InMemorySpanExporter()
    yield made
    made.shutdown()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> ExpandSpans:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return ExpandSpans(Tracer(provider, "tests"))


def expand(spans: ExpandSpans, *items: RecordResult, trace: str = PARENT) -> list[RecordResult]:
    return spans.wrap(lambda _: list(items))(TracedAccepted("status", "gw", 1, 1, "{}", trace))


def mask_of(items: list[RecordResult]) -> str:
    (offer,) = (item for item in items if isinstance(item, FanOutEvents))
    return offer.mask


def numbers(span: ReadableSpan) -> tuple[object, ...]:
    attributes = span.attributes or {}
    return tuple(attributes.get(f"callbacks.{name}") for name in ("new", "duplicates", "quarantined"))


def test_each_callback_counts_its_own_events_and_unreadable_records(
    spans: ExpandSpans, exporter: InMemorySpanExporter
) -> None:
    first = mask_of(expand(spans, OFFER, UNREADABLE["a"]))
    second = mask_of(expand(spans, UNREADABLE["b"], OFFER))

    spans.record_fan_out([FanOutGroup(first, 3, 1), FanOutGroup(second, 4, 4)], [UNREADABLE["a"]])
    spans.record_fan_out([], [UNREADABLE["b"], msgspec.structs.replace(UNREADABLE["b"], records=1)])
    spans.end()

    one, other = exporter.get_finished_spans()
    assert (numbers(one), numbers(other)) == ((1, 2, 2), (4, 0, 3))
    assert [link.context for link in other.links] == [one.context]
    assert not one.links


def test_callbacks_that_are_not_recorded_are_counted_by_no_span(
    spans: ExpandSpans, exporter: InMemorySpanExporter
) -> None:
    recorded = mask_of(expand(spans, OFFER))
    other = expand(spans, OFFER, UNREADABLE["a"], trace="")

    assert other == [OFFER, UNREADABLE["a"]]
    spans.record_fan_out([FanOutGroup(mask_of(other), 5, 5), FanOutGroup(recorded, 1, 1)], [UNREADABLE["a"]])
    spans.end()

    assert [numbers(span) for span in exporter.get_finished_spans()] == [(1, 0, 0)]


def test_a_callback_that_was_not_fanned_out_was_interrupted(spans: ExpandSpans, exporter: InMemorySpanExporter) -> None:
    expand(spans, OFFER)
    spans.end()

    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})["error.type"] == "interrupted"


def test_a_callback_of_another_release_without_a_trace_is_read_as_it_is(spans: ExpandSpans) -> None:
    assert spans.wrap(lambda _: [OFFER])(Accepted("status", "gw", 1, 1, "{}")) == [OFFER]
