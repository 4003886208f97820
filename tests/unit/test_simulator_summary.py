"""A run is summed up from what happened, attempt by attempt."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from callbacks.simulator.callback import EncodedBody, PlannedCallback
from callbacks.simulator.delivery import Attempt, CallbackDelivery
from callbacks.simulator.summary import RunCounter, RunProgress, percentile

NOW = datetime(2015, 9, 25, 7, 12, 54, tzinfo=UTC)
DELIVERED = ("14466445287300014003", "VIBER", "DELIVRD", "35679000123", 1_443_165_174_145, 0)
SEEN = ("14466445287300014003", "VIBER", "SEEN", "35679000123", 1_443_165_179_000, 0)
BUNDLE = PlannedCallback("status", (EncodedBody(b"{}", reports=(DELIVERED, SEEN)),) * 3)
COPY = PlannedCallback("status", BUNDLE.bodies, repeat=True)
REPLY = PlannedCallback(
    "reply", tuple(EncodedBody(b"{}", replies=(("14466445287300014004", f"u{n}"),)) for n in range(3))
)


def attempted(
    counter: RunCounter, delivery: CallbackDelivery, status: int | None, reason: str | None, latency_ms: float = 1
) -> None:
    delivery.attempts.append(Attempt(NOW, latency_ms, status, reason))
    counter.count(delivery)


def test_repeats_are_sent_and_acknowledged_but_are_no_further_events() -> None:
    counter = RunCounter(planned=3)
    for callback, latency_ms in ((BUNDLE, 1.0), (COPY, 2.0), (REPLY, 9.0)):
        attempted(counter, CallbackDelivery(callback), 200, None, latency_ms)
    summary = counter.summary(seconds=2, interrupted=False)
    assert (summary.sent, summary.repeats, summary.acknowledged) == (3, 1, 3)
    assert (summary.records, summary.reports, summary.replies) == (5, 2, 1)
    assert (summary.p50_ms, summary.p99_ms, summary.max_ms) == (2, 9, 9)
    assert summary.rate == 1.5


def test_three_failed_attempts_discard_a_callback() -> None:
    counter = RunCounter(planned=2)
    lost = CallbackDelivery(BUNDLE)
    attempted(counter, lost, 503, "503: overload")
    assert counter.progress() == RunProgress(
        planned=2, acknowledged=0, discarded=0, waiting=1, failed_attempts={"503: overload": 1}
    )
    attempted(counter, lost, None, "timeout")
    attempted(counter, lost, 503, "503: overload")
    summary = counter.summary(seconds=1, interrupted=True)
    assert (summary.sent, summary.acknowledged, summary.discarded, summary.unfinished) == (1, 0, 1, 1)
    assert summary.attempts == 3
    assert summary.failed_attempts == {"503: overload": 2, "timeout": 1}
    assert (summary.reports, summary.p50_ms, summary.max_ms) == (0, None, None)


@given(st.lists(st.floats(0, 1000), min_size=1), st.sampled_from([0.5, 0.99, 1.0]))
def test_a_percentile_is_one_of_the_values_and_its_share_does_not_exceed_it(values: list[float], share: float) -> None:
    ordered = sorted(values)
    value = percentile(ordered, share)
    assert value in ordered
    assert sum(other <= value for other in ordered) >= share * len(ordered)
    assert sum(other < value for other in ordered) < share * len(ordered)
