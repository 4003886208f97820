"""The metrics of a snapshot for Prometheus: names, help and labels.

Labels are kinds, outcomes, states, handlers, queues and names of tokens, each limited in number. Never a phone number,
a text, an address or a token (I9).
"""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from callbacks.ops.status.overdue import OverdueStatus
from callbacks.ops.status.snapshot import KINDS, MAX_HANDLERS, Snapshot
from shared import keys, queues, recent_rate, web_metric_families
from shared.last_times import LAST_ACCEPTED, LAST_DEAD, LAST_DELIVERED, LAST_RETRIED
from shared.metrics import (
    ACCEPTED,
    CALL,
    CALL_BUCKETS,
    DEAD,
    DELIVERY,
    DELIVERY_BUCKETS,
    OTHER,
    RETENTION_REMOVED,
    RETRIED,
    SEPARATOR,
    TRIMMED,
)
from shared.schema import OPTIONAL_KEYS
from shared.web_metric_families import Rows, add_histogram, rows

# Tokens are rotated, and the names of old ones stay counted: beyond this number they are one series.
MAX_SOURCES: Final = 32
SPOOL_STATES: Final = ("none", "drained", "filling", "full", "failing")

_OUTCOMES: Final[tuple[keys.RecordOutcome, ...]] = (
    "received", "unique", "duplicate", "quarantined", "dropped", "forgotten"
)  # fmt: skip


def build(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield all metrics except those of the audit."""
    yield from _records(snapshot)
    yield from _handlers(snapshot)
    yield from _trimmed(snapshot)
    yield from _retention(snapshot)
    yield from _web(snapshot)
    yield from _queues(snapshot)
    yield from _spools(snapshot)
    yield _gauge(
        "callbacks_failing_loops", "Background loops of all processes that keep failing.", len(snapshot.failing)
    )
    yield _gauge("callbacks_damaged_values", "Keys in Redis with a value that cannot be read.", len(snapshot.damaged))
    yield from _redis(snapshot)


def runbook(url: str) -> Metric:
    """Return where the runbook is: the alerts and the dashboard link to it."""
    found = GaugeMetricFamily(
        "callbacks_runbook_info", "1: the URL of the runbook (CALLBACKS_RUNBOOK_URL).", labels=("url",)
    )
    found.add_metric((url,), 1)
    return found


def overdue(status: OverdueStatus) -> Iterator[Metric]:
    """Yield the metrics of overdue messages; none before they are counted."""
    if status.messages is not None:
        yield _gauge(
            "callbacks_messages_overdue",
            "Messages without a final status CALLBACKS_OVERDUE_SECONDS after their first report.",
            status.messages,
        )
        yield _gauge(
            "callbacks_messages_overdue_ratio",
            "Share of the messages of the last week that are overdue, of those reported long enough ago; 0 to 1.",
            status.recent_share,
        )


def _records(snapshot: Snapshot) -> Iterator[Metric]:
    counts = snapshot.counts
    # A replay or drop makes the number of quarantined records smaller, so it is a gauge.
    for outcome, name, text in (
        ("received", "records_received", "Reports and replies received."),
        ("unique", "events", "Records seen for the first time (events)."),
        ("duplicate", "duplicate_records", "Records seen before."),
    ):
        found = CounterMetricFamily(f"callbacks_{name}", text, labels=("kind",))
        for kind in KINDS:
            found.add_metric((kind,), counts.get(f"{kind}.{outcome}", 0))
        yield found
    dropped = sum(counts.get(keys.counter(kind, "dropped"), 0) for kind in KINDS)
    quarantined = sum(counts.get(keys.counter(kind, "quarantined"), 0) for kind in KINDS)
    yield _gauge("callbacks_quarantine_failures", "Failures in the quarantine now.", snapshot.quarantined)
    yield _gauge("callbacks_quarantined_records", "Records in the quarantine now.", quarantined)
    reused = counts.get(keys.REUSED_REQ_UUIDS, 0)
    yield _counter(
        "callbacks_reused_req_uuids", "Replies with the req_uuid of another reply; they are delivered.", reused
    )
    yield _counter("callbacks_quarantine_dropped_records", "Records dropped from the quarantine.", dropped)


def _handlers(snapshot: Snapshot) -> Iterator[Metric]:
    deliveries = CounterMetricFamily(
        "callbacks_deliveries", "Events by handler and outcome.", labels=("handler", "outcome")
    )
    letters = GaugeMetricFamily("callbacks_dead_letters", "Dead letters now.", labels=("handler",))
    waiting = GaugeMetricFamily(
        "callbacks_handler_waiting_events", "Events that wait for a handler, retries included.", labels=("handler",)
    )
    retried = CounterMetricFamily("callbacks_retries", "Retries of events scheduled.", labels=("handler",))
    for handler, entries in snapshot.dead.items():
        at = snapshot.deliveries_at(handler)
        deliveries.add_metric((handler, "delivered"), at["delivered"])
        deliveries.add_metric((handler, "filtered"), at["filtered"])
        deliveries.add_metric((handler, "dropped"), at["dropped"])
        if at["forgotten"]:
            deliveries.add_metric((handler, "forgotten"), at["forgotten"])
        # Not the audit's counter: it decreases with each replay, which a Prometheus counter must not.
        deliveries.add_metric((handler, "dead_letter"), snapshot.metrics.get(f"{DEAD}{SEPARATOR}{handler}", 0))
        letters.add_metric((handler,), entries)
        waiting.add_metric((handler,), snapshot.events_waiting(handler))
        retried.add_metric((handler,), snapshot.metrics.get(f"{RETRIED}{SEPARATOR}{handler}", 0))
    seconds = HistogramMetricFamily(
        "callbacks_handler_call_duration_seconds",
        "Seconds of a call of the handler: with one event, or of a batch handler with a batch.",
        labels=("handler",),
    )
    delivery = HistogramMetricFamily(
        "callbacks_delivery_duration_seconds",
        "Seconds from the receipt of a callback to the settled delivery of its event.",
        labels=("handler",),
    )
    for handler in snapshot.dead:
        add_histogram(seconds, (handler,), snapshot.metrics, f"{CALL}{SEPARATOR}{handler}", CALL_BUCKETS)
        add_histogram(delivery, (handler,), snapshot.metrics, f"{DELIVERY}{SEPARATOR}{handler}", DELIVERY_BUCKETS)
    yield from (deliveries, letters, waiting, retried, seconds, delivery)
    yield from _last_times(snapshot)


def _last_times(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield the times of what happened last; none of what has not happened yet."""
    for name, text, last in (
        ("delivery", "a handler last delivered an event", LAST_DELIVERED),
        ("retry", "a handler last failed with an event that is tried again", LAST_RETRIED),
        ("dead_letter", "a handler last gave up on an event", LAST_DEAD),
    ):
        found = GaugeMetricFamily(
            f"callbacks_handler_last_{name}_timestamp_seconds", f"When {text}, in Unix seconds.", labels=("handler",)
        )
        for handler in snapshot.dead:
            seconds = snapshot.metrics.get(f"{last}{SEPARATOR}{handler}")
            if seconds is not None:
                found.add_metric((handler,), seconds)
        yield found


def _trimmed(snapshot: Snapshot) -> Iterator[Metric]:
    dropped = CounterMetricFamily(
        "callbacks_failures_dropped",
        "Failures dropped for their age or for lack of room, by list; not those that an operator dropped.",
        labels=("list", "why"),
    )
    for failure_list in ("quarantine", *(f"dead:{handler}" for handler in snapshot.dead)):
        for why in ("age", "room"):
            number = snapshot.metrics.get(SEPARATOR.join((TRIMMED, failure_list, why)), 0)
            dropped.add_metric((failure_list, why), number)
    yield dropped


def _web(snapshot: Snapshot) -> Iterator[Metric]:
    metrics = snapshot.metrics
    received = CounterMetricFamily("callbacks_accepted", "Callbacks accepted.", labels=("kind", "source"))
    for labels, number in _limit_sources(rows(metrics, ACCEPTED, words=2)):
        received.add_metric(labels, number)
    unreadable = CounterMetricFamily(
        "callbacks_unreadable_fields", "Optional fields that could not be read, by field.", labels=("field",)
    )
    fields = {field: number for (field,), number in rows(metrics, recent_rate.UNREADABLE, words=1)}
    for field in OPTIONAL_KEYS:
        unreadable.add_metric((field,), fields.get(field, 0))
    unknown = CounterMetricFamily(
        "callbacks_unknown_statuses",
        "Reports with a status that the specification does not have, by status.",
        labels=("status",),
    )
    for status, number in snapshot.unknown_statuses().items():
        unknown.add_metric((status,), number)
    yield from (received, unreadable, unknown, *_last_accepted(metrics))
    yield from web_metric_families.build(metrics, prefix="callbacks")


def _last_accepted(metrics: Mapping[str, int]) -> Iterator[Metric]:
    """Yield when a callback of each source was last accepted, of the MAX_SOURCES newest."""
    found = GaugeMetricFamily(
        "callbacks_last_accepted_timestamp_seconds",
        "When a callback of a source was last accepted, in Unix seconds.",
        labels=("source",),
    )
    newest = sorted(rows(metrics, LAST_ACCEPTED, words=1), key=lambda row: -row[1])
    for source, seconds in newest[:MAX_SOURCES]:
        found.add_metric(source, seconds)
    yield found


def _limit_sources(rows: Rows) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield rows of kind and source; the smallest sources beyond MAX_SOURCES become "other"."""
    by_source: dict[str, int] = {}
    for (_, source), number in rows:
        by_source[source] = by_source.get(source, 0) + number
    shown = set(sorted(by_source, key=lambda source: (-by_source[source], source))[:MAX_SOURCES])
    found: dict[tuple[str, str], int] = {}
    for (kind, source), number in rows:
        labels = (kind if kind in KINDS else "unknown", source if source in shown else OTHER)
        found[labels] = found.get(labels, 0) + number
    yield from found.items()


def _queues(snapshot: Snapshot) -> Iterator[Metric]:
    jobs = GaugeMetricFamily(
        "callbacks_queue_jobs", "Jobs of a queue: waiting, running or scheduled.", labels=("queue", "state")
    )
    oldest = GaugeMetricFamily(
        "callbacks_queue_oldest_job_age_seconds", "Age of the oldest waiting job of a queue.", labels=("queue",)
    )
    workers = GaugeMetricFamily("callbacks_workers", "Live worker processes of a queue.", labels=("queue",))
    paused = GaugeMetricFamily(
        "callbacks_queue_paused",
        "1: the queue is paused by its handler, by an operator, or because Redis has no memory for its retries.",
        labels=("queue", "by"),
    )
    for queue in snapshot.queues[: MAX_HANDLERS + 1]:
        for who in ("handler", "operator", "memory") if queue.name != queues.EXPAND else ():
            paused.add_metric((queue.name, who), int(queue.paused_by == who))
        for state in ("waiting", "running", "scheduled"):
            jobs.add_metric((queue.name, state), getattr(queue, state))
        oldest.add_metric((queue.name,), queue.oldest_seconds)
        workers.add_metric((queue.name,), queue.workers)
    yield from (jobs, oldest, workers, paused)
    counts = snapshot.counts
    arrived = sum(counts.get(keys.counter(kind, "received"), 0) for kind in KINDS)
    settled = sum(counts.get(keys.counter(kind, o), 0) for kind in KINDS for o in _OUTCOMES if o != "received")
    yield _gauge(
        "callbacks_expand_waiting_records", f"Records that wait in the queue {queues.EXPAND}.", arrived - settled
    )


def _spools(snapshot: Snapshot) -> Iterator[Metric]:
    spools = snapshot.spools
    yield _gauge("callbacks_web_processes", "Web processes that reported within 15 seconds.", len(spools))
    yield _gauge("callbacks_spool_callbacks", "Callbacks in spools.", sum(spool.callbacks for spool in spools))
    yield _gauge("callbacks_spool_bytes", "Bytes in spools.", sum(spool.size_bytes for spool in spools))
    # Processes of one machine share a folder and its limit, a setting that is equal everywhere.
    limit = max((spool.limit_bytes for spool in spools), default=0)
    yield _gauge("callbacks_spool_limit_bytes", "Size limit of the spools of one machine.", limit)
    left = [spool.refused_left_seconds for spool in spools if spool.refused]
    yield _gauge(
        "callbacks_refused_unstored",
        "Callbacks that nothing could store, until ten minutes after the last.",
        sum(spool.refused for spool in spools),
    )
    yield _gauge(
        "callbacks_refused_retry_left_seconds",
        "How long the gateway still sends the first callback that nothing could store; 0: none, or it has given up.",
        min(left, default=0.0),
    )
    states = GaugeMetricFamily("callbacks_spool_state", "Web processes by the state of their spool.", labels=("state",))
    for state in SPOOL_STATES:
        states.add_metric((state,), sum(spool.state == state for spool in spools))
    yield states


def _retention(snapshot: Snapshot) -> Iterator[Metric]:
    days = GaugeMetricFamily(
        "callbacks_retention_days", "Days for which a store keeps what it holds.", labels=("store",)
    )
    oldest = GaugeMetricFamily(
        "callbacks_retention_oldest_age_seconds", "Age of the oldest item in a store; 0: none.", labels=("store",)
    )
    behind = GaugeMetricFamily(
        "callbacks_retention_behind_seconds",
        "For how long the oldest item in a store should have been removed; 0: within a day.",
        labels=("store",),
    )
    failing = GaugeMetricFamily(
        "callbacks_retention_failing", "1: nothing can be removed from a store.", labels=("store",)
    )
    for state in snapshot.retention[:MAX_HANDLERS]:
        days.add_metric((state.store,), state.days)
        oldest.add_metric((state.store,), state.age_seconds(snapshot.seconds))
        behind.add_metric((state.store,), state.behind_seconds(snapshot.seconds))
        failing.add_metric((state.store,), int(bool(state.failing_since_ms)))
    removed = CounterMetricFamily("callbacks_retention_removed", "Items removed for their age.", labels=("store",))
    counted = {store: number for (store,), number in rows(snapshot.metrics, RETENTION_REMOVED, words=1)}
    # A counter that begins with its first item would have no increase.
    for store in sorted({*counted, *(state.store.partition("@")[0] for state in snapshot.retention)}):
        removed.add_metric((store,), counted.get(store, 0))
    yield from (days, oldest, behind, failing, removed)


def _redis(snapshot: Snapshot) -> Iterator[Metric]:
    held = all(finding.ok for finding in snapshot.findings)
    yield _gauge("callbacks_redis_durable", "1: Redis is as durable as CALLBACKS_DURABILITY requires.", int(held))
    checks = GaugeMetricFamily(
        "callbacks_redis_durability_check_passed", "1: this durability check of Redis passed.", labels=("check",)
    )
    assumed = GaugeMetricFamily(
        "callbacks_redis_durability_check_assumed",
        "1: this durability check of Redis could not be made, or passed with a warning.",
        labels=("check",),
    )
    for finding in snapshot.findings:
        checks.add_metric((finding.name,), int(finding.ok))
        assumed.add_metric((finding.name,), int(finding.ok and bool(finding.remedy)))
    yield checks
    yield assumed
    yield _gauge("callbacks_redis_memory_used_bytes", "Memory that Redis uses.", snapshot.used_bytes)
    yield _gauge("callbacks_redis_memory_max_bytes", "Memory limit of Redis; 0: none.", snapshot.max_bytes)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)
