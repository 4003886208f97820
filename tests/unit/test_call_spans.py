"""The spans of a handler's calls: each outcome has its name, and tracing changes no call."""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callbacks import Pause, Reject, ReportEvent, Retry, handler
from shared.events import Event
from shared.tracer import Tracer
from tests.unit.example_events import report
from workers.declaration import ATTRIBUTE, Handler
from workers.deliver.call.caller import Caller
from workers.deliver.call.spans import CallSpans
from workers.runtime.outcome import DONE, Failed, Outcome, Rejected

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


class Traced:
    """A handler that is called as in a worker with tracing, and the spans of these calls."""

    def __init__(self, function: Callable[[Any], Any], **options: Any) -> None:
        decorated = handler(ReportEvent, name="mine", **options)(function)
        declaration_of: Handler = getattr(decorated, ATTRIBUTE)
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.spans = CallSpans(Tracer(provider, "test"), declaration_of, queue=f"deliver-{declaration_of.name}")
        self._caller = Caller(declaration_of, spans=self.spans)

    def call(
        self,
        *events: Event,
        attempt: int = 1,
        sampled: bool = True,
        max_outcomes: int = 100,
        before: Sequence[Event] = (),
        joining: Sequence[Event] = (),
    ) -> list[Outcome]:
        """Call it with these events, as one run, behind those that were added before; end after `max_outcomes`.

        The events `joining` join while calls are in flight; they are recorded.
        """
        outcomes: list[Outcome] = []
        self.spans.add([(event, attempt, TRACE if sampled else "") for event in events])
        called, later = [*before, *events], list(joining)

        def more(free_slots: int) -> Sequence[Event]:
            joined, later[:] = later[:free_slots], later[free_slots:]
            self.spans.add([(event, attempt, TRACE) for event in joined])
            called.extend(joined)
            return joined

        run = self._caller.call(called, more=more)
        with self._caller, closing(run) as results:  # type: ignore[type-var] # it is a generator
            for _, outcome in self.spans.end_calls(called, results):
                outcomes.append(outcome)
                if len(outcomes) == max_outcomes:
                    break
        self.spans.end()
        return outcomes

    @property
    def finished(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def words(self) -> list[Any]:
        """The outcome of each call, as its span names it."""
        return [(span.attributes or {})["callbacks.outcome"] for span in self.finished]


def raising(error: BaseException) -> Callable[[Any], None]:
    def fail(_: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("function", "attempt", "word", "error_type"),
    [
        (lambda _: None, 1, "delivered", None),
        (raising(ValueError("secret")), 1, "retried", "ValueError"),
        (raising(ValueError("secret")), 3, "dead", "ValueError"),
        (raising(Retry(after_seconds=1)), 1, "retried", None),
        (raising(Retry(after_seconds=1)), 3, "dead", "Retry"),
        (raising(Reject("secret")), 1, "dead", "Reject"),
        (raising(Pause(after_seconds=9, reason="secret")), 1, "paused", None),
        (raising(SystemExit("secret")), 1, "retried", "SystemExit"),
    ],
)
def test_each_outcome_has_its_name_in_the_span_and_no_message(
    function: Callable[[Any], Any], attempt: int, word: str, error_type: str | None
) -> None:
    traced = Traced(function, attempts=3)
    traced.call(report(), attempt=attempt)
    (span,) = traced.finished
    attributes = dict(span.attributes or {})
    assert (attributes["callbacks.outcome"], attributes.get("error.type")) == (word, error_type)
    assert (span.name, attributes["callbacks.attempt"]) == ("deliver mine", attempt)
    assert "secret" not in span.to_json()


def test_events_that_join_a_run_are_recorded_like_its_first_ones() -> None:
    traced = Traced(lambda _: None)
    traced.spans.add([(began := report(), 2, TRACE)])
    traced.call(report(), before=[began])
    assert [(span.attributes or {})["callbacks.attempt"] for span in traced.finished] == [2, 1]


def test_the_span_of_an_event_that_joins_a_run_without_recorded_events_is_ended() -> None:
    began, joins = report(), report()
    joined = asyncio.Event()

    async def take(event: ReportEvent) -> None:
        if event is joins:
            joined.set()
        await joined.wait()

    traced = Traced(take, concurrency=2)
    assert traced.call(began, sampled=False, joining=[joins]) == [DONE, DONE]
    assert traced.words == ["delivered"]


def test_a_call_over_its_time_is_retried_as_a_time_out() -> None:
    def hang(_: Any) -> None:
        while True:
            pass

    traced = Traced(hang, timeout_seconds=0.1)
    traced.call(report())
    assert (traced.finished[0].attributes or {})["error.type"] == "HandlerTimeout"


def test_a_cancelled_call_is_interrupted_and_a_call_not_started_leaves_no_span() -> None:
    async def wait(event: ReportEvent) -> None:
        if event.message_id != "quick":
            await asyncio.sleep(60)

    traced = Traced(wait, concurrency=2)
    traced.call(report(message_id="quick"), report(message_id="slow"), report(message_id="later"), max_outcomes=1)
    assert sorted(traced.words) == ["delivered", "interrupted"]


def test_an_event_that_was_not_called_can_be_recorded() -> None:
    traced = Traced(lambda _: None)
    event = report()
    traced.spans.add([(event, 1, TRACE)])
    traced.spans.record_uncalled(event, Rejected("3 workers died"))
    assert traced.words == ["dead"]


def test_what_is_not_sampled_leaves_no_span() -> None:
    traced = Traced(lambda _: None)
    traced.call(report(), report(), sampled=False)
    assert traced.finished == ()


def test_a_traceback_shows_only_the_handlers_frames() -> None:
    def fail(_: Any) -> None:
        raise ValueError("no")

    async def fail_later(_: Any) -> None:
        raise ValueError("no")

    for function in (fail, fail_later):
        (outcome,) = Traced(function).call(report())
        assert isinstance(outcome, Failed)
        assert outcome.traceback.count("  File ") == 1, outcome.traceback
        assert outcome.cause.startswith("ValueError at test_call_spans.py:")


def test_a_call_runs_in_the_same_context_as_without_traces_except_for_the_span() -> None:
    kept: contextvars.ContextVar[int] = contextvars.ContextVar("kept", default=0)
    seen: list[tuple[int, str]] = []

    def count(_: Any) -> None:
        kept.set(kept.get() + 1)
        seen.append((kept.get(), f"{trace.get_current_span().get_span_context().trace_id:032x}"))

    Traced(count).call(report(), report())
    assert seen == [(1, "a" * 32), (2, "a" * 32)]
    assert not trace.get_current_span().is_recording()
