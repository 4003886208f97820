"""What web processes count, as metrics for Prometheus: from one process, or added up over all of them.

`callbacks ops` shows it of all processes, each web process of itself. The names differ by their `prefix`, so that a
Prometheus that scrapes both counts nothing twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from shared import refusals
from shared.metrics import INFINITY, SECONDS_BUCKETS, SEPARATOR, SIZE_BUCKETS, SUM_UNIT

Rows: TypeAlias = list[tuple[tuple[str, ...], int]]


def build(metrics: Mapping[str, int], *, prefix: str) -> Iterator[Metric]:
    """Yield answers by status, refusals by reason, the seconds of an answer and of a commit, and sizes of batches.

    `metrics` is a snapshot of `shared.metrics.Metrics`. Every series is there from 0 on, or an increase from nothing to
    the first refusal would not be seen.
    """
    answers = CounterMetricFamily(
        f"{prefix}_responses", "Responses to posted callbacks by HTTP status.", labels=("code",)
    )
    codes = {code: number for (code,), number in rows(metrics, "responses", words=1)}
    for code in sorted({"200", *(str(reason.status) for reason in refusals.REASONS.values()), *codes}):
        answers.add_metric((code,), codes.get(code, 0))
    refused = CounterMetricFamily(
        f"{prefix}_refused",
        "Requests refused, by reason; sender: known has a valid token, unknown has none.",
        labels=("reason", "code", "sender"),
    )
    numbers = dict(rows(metrics, "refused", words=2))
    for reason in refusals.REASONS.values():
        for sender in refusals.SENDERS:
            refused.add_metric((reason.name, str(reason.status), sender), numbers.get((reason.name, sender), 0))
    yield from (answers, refused)
    for part, name, text, bounds in (
        ("acknowledged", "acknowledge_duration_seconds", "Seconds from a request to its 200.", SECONDS_BUCKETS),
        (
            "commit",
            "commit_duration_seconds",
            "Seconds until a batch is as durable as CALLBACKS_DURABILITY asks.",
            SECONDS_BUCKETS,
        ),
        ("batch", "batch_size", "Callbacks committed together.", SIZE_BUCKETS),
    ):
        found = HistogramMetricFamily(f"{prefix}_{name}", text)
        add_histogram(found, (), metrics, part, bounds)
        yield found


def rows(metrics: Mapping[str, int], part: str, *, words: int) -> Rows:
    """Return the numbers of `part` with the `words` that follow it in their names."""
    split = ((tuple(name.split(SEPARATOR)), number) for name, number in sorted(metrics.items()))
    return [(name[1:], number) for name, number in split if name[0] == part and len(name) == words + 1]


def add_histogram(
    family: HistogramMetricFamily,
    labels: Sequence[str],
    metrics: Mapping[str, int],
    name: str,
    bounds: Sequence[float],
) -> None:
    """Add the histogram `name` of `metrics` to `family`."""
    buckets, total = [], 0
    for bound in (*map(str, bounds), INFINITY):
        total += metrics.get(SEPARATOR.join((name, "le", bound)), 0)
        buckets.append((bound, total))
    family.add_metric(labels, buckets, sum_value=metrics.get(f"{name}{SEPARATOR}sum", 0) * SUM_UNIT)
