"""The span of a POST says what was stored, with how many other callbacks, and where; the callback carries it along."""

import asyncio
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.types import Receive, Scope

from ingest import answers
from ingest.answers import Answer
from ingest.group_commit import BatchEntry, Destination
from ingest.sources import AddressRules
from ingest.spans import TracedCommit, TracedPost
from shared.batches import Accepted, Quarantined, TracedAccepted
from shared.tracer import Tracer

SCOPE: Scope = {"type": "http", "scheme": "http", "headers": [], "client": None}


class Taking:
    """A store that takes every batch."""

    def __init__(self) -> None:
        self.batches: list[Sequence[BatchEntry]] = []

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        self.batches.append(batch)
        return "redis"

    async def close(self) -> None:
        """Close nothing."""


class Faulty(Taking):
    """A store that fails for a batch of several; a single entry goes to the spool, and the next ones to Redis."""

    async def write(self, batch: Sequence[BatchEntry]) -> Destination:
        if len(batch) > 1:
            raise RuntimeError("a fault")
        await super().write(batch)
        return "spool" if len(self.batches) == 1 else "redis"


def accepted(number: int) -> Accepted:
    return Accepted("status", "gw", 1, 1, f"{number}")


def unreadable() -> Quarantined:
    return Quarantined(kind="status", source="gw", received_ms=1, error="no", body=b"{")


def posted(store: Taking, *entries: BatchEntry) -> list[ReadableSpan]:
    """Post all of `entries` at once. Return the spans of their POSTs in the order of their start."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = Tracer(provider, "test")

    async def run() -> None:
        commit = TracedCommit(store, tracer=tracer)

        async def post(entry: BatchEntry) -> None:
            async def handle(_scope: Scope, _receive: Receive) -> Answer:
                await commit.accept(entry, 1)
                return answers.ACCEPTED

            rules = AddressRules(allowed=(), trusted=())
            await TracedPost(handle, route="/x", tracer=tracer, addresses=rules).handle(SCOPE, _never)

        posts = [asyncio.create_task(post(entry)) for entry in entries]
        await asyncio.sleep(0)
        committing = asyncio.create_task(commit.run())
        await asyncio.gather(*posts)
        commit.close()
        await committing

    asyncio.run(run())
    return sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


def about(span: ReadableSpan) -> tuple[Any, Any]:
    attributes = span.attributes or {}
    return attributes.get("messaging.batch.message_count"), attributes.get("callbacks.destination")


def test_spans_of_one_batch_have_its_size_and_each_is_a_trace() -> None:
    spans = posted(Taking(), accepted(0), accepted(1), accepted(2))
    assert [about(span) for span in spans] == [(3, "redis")] * 3
    assert len({span.context.trace_id for span in spans if span.context}) == 3


def test_spans_after_an_error_show_that_each_was_committed_alone() -> None:
    spans = posted(Faulty(), accepted(0), accepted(1))
    assert [about(span) for span in spans] == [(1, "spool"), (1, "redis")]


def test_an_accepted_callback_carries_its_span_and_a_quarantined_one_does_not() -> None:
    taking = Taking()
    first, second = posted(taking, accepted(0), unreadable())
    ((callback, entry),) = taking.batches
    assert isinstance(callback, TracedAccepted)
    assert first.context is not None
    assert callback.trace.startswith(f"00-{first.context.trace_id:032x}-{first.context.span_id:016x}-")
    assert entry == unreadable()
    assert (second.attributes or {})["callbacks.outcome"] == "quarantined"


async def _never() -> Any:
    raise AssertionError("nobody reads a body here")
