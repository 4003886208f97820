"""What a process counts by itself, and how little of it can become a label."""

import asyncio
from dataclasses import replace

import pytest
from prometheus_client.metrics_core import Metric

from callbacks.ops.status import metric_families
from callbacks.ops.status.snapshot import MAX_HANDLERS, QueueStatus, Snapshot
from ingest import answers
from ingest.group_commit import Destination
from ingest.metrics import STATUSES, AnswerMetrics, MeasuredStore
from shared import durability_findings, queues, recent_rate, refusals
from shared.batches import Accepted, Quarantined
from shared.errors import StoreUnavailable
from shared.metrics import DELIVERY_BUCKETS, SECONDS_BUCKETS, Metrics
from tests.clock import Clock


def reading(counts: dict[str, int] | None = None, metrics: dict[str, int] | None = None, **more: object) -> Snapshot:
    expand = QueueStatus(name=queues.EXPAND, waiting=0, running=0, scheduled=0, oldest_seconds=0.0, workers=1)
    fields: dict[str, object] = {
        "seconds": 0.0,
        "recent_rate": recent_rate.parse({}, now_seconds=0.0),
        "counts": counts or {},
        "metrics": metrics or {},
        "findings": (durability_findings.unreachable("tests"),),
        "used_bytes": 1,
        "max_bytes": 2,
        "quarantined": 0,
        "dead": {},
        "queues": (expand,),
        "spools": (),
    }
    return Snapshot(**(fields | more))  # type: ignore[arg-type] # as the test gives them


def family(name: str, found: Snapshot) -> Metric:
    [one] = [metric for metric in metric_families.build(found) if metric.name == name]
    return one


def series(name: str, found: Snapshot) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in family(name, found).samples}


def test_an_observation_is_counted_at_the_first_bound_that_is_not_below_it() -> None:
    metrics = Metrics()
    histogram = metrics.histogram(("commit",), (0.1, 1.0))
    histogram.observe(0.1)
    histogram.observe(0.5, 3)
    histogram.observe(7)
    assert metrics.snapshot() == {
        "commit|le|0.1": 1,
        "commit|le|1.0": 3,
        "commit|le|+Inf": 1,
        "commit|sum": 8_600_000,
    }


def test_buckets_are_cumulative_where_prometheus_reads_them_and_the_last_is_the_count() -> None:
    metrics = Metrics()
    histogram = metrics.histogram(("commit",), SECONDS_BUCKETS)
    for seconds in (0.0004, 0.004, 0.004, 60):
        histogram.observe(seconds)
    found = {
        (sample.name, sample.labels.get("le")): sample.value
        for sample in family("callbacks_commit_duration_seconds", reading(metrics=metrics.snapshot())).samples
    }
    assert found["callbacks_commit_duration_seconds_bucket", "0.0005"] == 1
    assert found["callbacks_commit_duration_seconds_bucket", "0.005"] == 3
    assert found["callbacks_commit_duration_seconds_bucket", "30.0"] == 3
    assert found["callbacks_commit_duration_seconds_bucket", "+Inf"] == 4
    assert found["callbacks_commit_duration_seconds_count", None] == 4
    assert found["callbacks_commit_duration_seconds_sum", None] == pytest.approx(60.0084)


def test_a_status_that_is_none_of_ours_is_other_and_only_200s_are_acknowledgements() -> None:
    metrics = Metrics()
    counter = AnswerMetrics(metrics)
    counter.count(answers.ACCEPTED, 0.2)
    counter.count(answers.overload(), 0.2)
    for status in range(600, 700):
        counter.count(replace(answers.ACCEPTED, status=status), 0.2)

    found = series("callbacks_responses", reading(metrics=metrics.snapshot()))
    assert {code: number for code, number in found.items() if number} == {("200",): 1, ("503",): 1, ("other",): 100}
    assert metrics.snapshot()["acknowledged|le|0.25"] == 1
    assert len(STATUSES) <= 10


def test_a_refusal_is_counted_by_reason_and_by_what_is_known_of_its_sender() -> None:
    metrics = Metrics()
    clock = Clock()
    counter = AnswerMetrics(metrics, now_seconds=clock)
    stranger = answers.address_not_allowed("203.0.113.9")
    for answer in (
        stranger,
        stranger,
        replace(stranger, address="192.0.2.7", has_valid_token=True),
        replace(answers.not_found(), address="198.51.100.1"),
        replace(answers.not_found(), address="198.51.100.2"),
    ):
        counter.count(answer, 0.2)

    found = series("callbacks_refused", reading(metrics=metrics.snapshot()))
    assert {labels: number for labels, number in found.items() if number} == {
        ("address-not-allowed", "403", "unknown"): 2,
        ("address-not-allowed", "403", "known"): 1,
        ("not-found", "404", "unknown"): 2,
    }
    clock.seconds += 42
    assert counter.refused_addresses() == {
        "address-not-allowed|known": ("192.0.2.7", 42.0),
        "not-found|unknown": ("198.51.100.2", 42.0),
    }
    clock.seconds += 600
    assert counter.refused_addresses() == {}


def test_each_reason_has_a_series_before_its_first_refusal() -> None:
    found = series("callbacks_refused", reading())
    assert set(found.values()) == {0}
    assert {reason for reason, _, _ in found} == set(refusals.REASONS)
    assert {"400", "403", "404", "408", "413", "415", "431", "503"} <= {
        code for (code,) in series("callbacks_responses", reading())
    }


def test_sources_beyond_a_number_are_one_and_none_of_their_callbacks_is_left_out() -> None:
    metrics = Metrics()
    for number in range(200):
        metrics.add(("accepted", "report", f"token-{number}"), number)
    found = series("callbacks_accepted", reading(metrics=metrics.snapshot()))
    assert len(found) == metric_families.MAX_SOURCES + 1
    assert sum(found.values()) == sum(range(200))
    assert found["report", "token-199"] == 199
    assert found["report", "other"] == sum(range(200 - metric_families.MAX_SOURCES))


def test_no_kind_and_no_counter_but_those_we_know_becomes_a_series() -> None:
    strange = {"sms.received": 5, "report.seen": 7, "report.received:x": 1}
    found = reading(counts=strange, metrics={"accepted|356990000|x": 2, "responses|200|3": 4, "text": 1})
    assert set(series("callbacks_records_received", found)) == {("report",), ("reply",), ("unknown",)}
    assert series("callbacks_accepted", found) == {("unknown", "x"): 2}
    assert not any(series("callbacks_responses", found).values())
    assert MAX_HANDLERS <= 100


async def _write(store: MeasuredStore, *batch: Accepted | Quarantined) -> None:
    await store.write(batch)


class Elsewhere:
    """A store that takes everything, or nothing."""

    def __init__(self, *, takes: bool) -> None:
        self._takes = takes

    async def write(self, batch: object) -> Destination:
        if not self._takes:
            raise StoreUnavailable("full")
        return "spool"

    async def close(self) -> None:
        """Nothing was opened."""


@pytest.mark.parametrize("takes", [True, False])
def test_callbacks_are_counted_as_received_when_they_are_kept_and_not_otherwise(takes: bool) -> None:
    metrics = Metrics()
    store = MeasuredStore(Elsewhere(takes=takes), metrics)
    batch = (
        Accepted("status", "one", 1, 3, "{}"),
        Accepted("reply", "two", 1, 1, "{}"),
        Quarantined(kind=None, source="one", received_ms=1, error="no", body=b"["),
    )
    if takes:
        asyncio.run(_write(store, *batch))
    else:
        with pytest.raises(StoreUnavailable):
            asyncio.run(_write(store, *batch))
    counted = {name: number for name, number in metrics.snapshot().items() if name.startswith(("accepted", "batch"))}
    assert counted == (
        {
            "accepted|report|one": 1,
            "accepted|reply|two": 1,
            "accepted|unknown|one": 1,
            "batch|le|5.0": 1,
            "batch|sum": 3_000_000,
        }
        if takes
        else {}
    )


def test_the_time_to_deliver_is_shown_by_handler() -> None:
    metrics = Metrics()
    histogram = metrics.histogram(("delivery", "crm"), DELIVERY_BUCKETS)
    histogram.observe(0.02, 90)
    histogram.observe(200, 10)
    found = reading(metrics=metrics.snapshot(), dead={"crm": 0, "idle": 0})

    shown = {
        (sample.name, *sample.labels.values()): sample.value
        for sample in family("callbacks_delivery_duration_seconds", found).samples
    }
    assert shown["callbacks_delivery_duration_seconds_bucket", "crm", "0.025"] == 90
    assert shown["callbacks_delivery_duration_seconds_count", "crm"] == 100
    assert shown["callbacks_delivery_duration_seconds_count", "idle"] == 0


def test_when_something_happened_last_is_a_time_and_what_never_happened_has_none() -> None:
    metrics = {
        "last_accepted_at": 900,
        "last_accepted_at|main": 1000,
        "last_accepted_at|former": 10,
        "last_delivered_at|crm": 1001,
        "last_dead_at|crm": 7,
    }
    found = reading(metrics=metrics, dead={"crm": 0, "idle": 0})

    assert series("callbacks_last_accepted_timestamp_seconds", found) == {("main",): 1000, ("former",): 10}
    assert series("callbacks_handler_last_delivery_timestamp_seconds", found) == {("crm",): 1001}
    assert series("callbacks_handler_last_retry_timestamp_seconds", found) == {}
    assert series("callbacks_handler_last_dead_letter_timestamp_seconds", found) == {("crm",): 7}
