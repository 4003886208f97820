"""The attempts of the last ten minutes, by handler: what counts of a process's metrics, and what is read again."""

import json

import pytest

from shared import recent_outcomes
from shared.metrics import SECONDS_BUCKETS, Metrics
from shared.recent_outcomes import RecentOutcomes

NOW = 1_700_000_005.0
MINUTE = int(NOW) // 60


def ring(*buckets: dict[str, int]) -> dict[bytes, bytes]:
    return {b"%d" % number: json.dumps(held).encode() for number, held in enumerate(buckets)}


def test_each_attempt_of_a_handler_counts_once_and_each_failure_too() -> None:
    metrics = Metrics()
    seconds = metrics.histogram(("handler", "forward-crm_eu"), SECONDS_BUCKETS)
    seconds.observe(0.001, 5)
    seconds.observe(99.0, 2)
    metrics.add(("retried", "forward-crm_eu"), 3)
    metrics.add(("dead", "forward-crm_eu"), 1)
    metrics.add(("accepted", "report", "retried"), 9)
    metrics.add(("responses", 200), 9)

    assert recent_outcomes.select_growth(metrics.snapshot()) == {
        "tried|forward-crm_eu": 7,
        "failed|forward-crm_eu": 4,
    }


def test_idle_handlers_cost_nothing() -> None:
    metrics = Metrics()
    metrics.histogram(("handler", "refund"), SECONDS_BUCKETS)
    assert recent_outcomes.select_growth(metrics.snapshot()) == {}


@pytest.mark.parametrize(("minutes_ago", "counts"), [(0, True), (9, True), (10, False)])
def test_only_the_last_ten_minutes_count(minutes_ago: int, counts: bool) -> None:
    held = ring(
        {"bucket": MINUTE, "tried|refund": 1},
        {"bucket": MINUTE - minutes_ago, "tried|refund": 2, "failed|refund": 2, "failed|chat": 1},
    )
    if minutes_ago == 0:
        del held[b"0"]

    found = recent_outcomes.parse(held, now_seconds=NOW)

    assert found.get("chat") == (RecentOutcomes(0, 1) if counts else None)
    assert found["refund"].failed == (2 if counts else 0)
