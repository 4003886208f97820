"""The attempts of the last ten minutes, by handler: what counts of a process's metrics, and what is read again."""

import json

import pytest

from shared import recent_outcomes
from shared.metrics import CALL_BUCKETS, DELIVERY_BUCKETS, Metrics

NOW = 1_700_000_005.0
MINUTE = int(NOW) // 60


def ring(*buckets: dict[str, int]) -> dict[bytes, bytes]:
    return {b"%d" % number: json.dumps(held).encode() for number, held in enumerate(buckets)}


def test_each_attempt_of_a_handler_counts_once_and_each_failure_too() -> None:
    metrics = Metrics()
    calls = metrics.histogram(("call", "forward-crm_eu"), CALL_BUCKETS)
    calls.observe(0.001, 2)
    calls.observe(99.0)
    metrics.histogram(("delivery", "forward-crm_eu"), DELIVERY_BUCKETS).observe(40.0, 7)
    metrics.add(("retried", "forward-crm_eu"), 3)
    metrics.add(("dead", "forward-crm_eu"), 1)
    metrics.add(("accepted", "report", "retried"), 9)
    metrics.add(("responses", 200), 9)

    growth = recent_outcomes.select_growth(metrics.snapshot())
    found = recent_outcomes.parse(ring({"bucket": MINUTE, **growth}), now_seconds=NOW)["forward-crm_eu"]

    assert (found.tried, found.failed) == (11, 4)
    assert found.calls[CALL_BUCKETS.index(0.001)] == 2
    assert found.calls[CALL_BUCKETS.index(120.0)] == 1
    assert found.deliveries[DELIVERY_BUCKETS.index(60.0)] == 7
    assert (sum(found.calls), sum(found.deliveries)) == (3, 7)


def test_idle_handlers_cost_nothing() -> None:
    metrics = Metrics()
    metrics.histogram(("call", "refund"), CALL_BUCKETS)
    assert recent_outcomes.select_growth(metrics.snapshot()) == {}


@pytest.mark.parametrize(("minutes_ago", "counts"), [(0, True), (9, True), (10, False)])
def test_only_the_last_ten_minutes_count(minutes_ago: int, counts: bool) -> None:
    held = ring(
        {"bucket": MINUTE, "delivery|refund|le|0.05": 1},
        {"bucket": MINUTE - minutes_ago, "delivery|refund|le|0.05": 3, "retried|refund": 2, "dead|chat": 1},
    )
    if minutes_ago == 0:
        del held[b"0"]

    found = recent_outcomes.parse(held, now_seconds=NOW)

    assert ("chat" in found) == counts
    assert found["refund"].failed == (2 if counts else 0)
