"""The last hour as it is read: whole buckets in order, and percentiles out of a histogram."""

import json

import pytest

from shared import recent_rate
from shared.metrics import SECONDS_BUCKETS, Metrics

NOW = 1_700_000_005.0


def ring(*buckets: dict[str, int]) -> dict[bytes, bytes]:
    return {str(held["bucket"] % recent_rate.RING.slots).encode(): json.dumps(held).encode() for held in buckets}


def test_dead_letters_of_all_handlers_are_counted_by_bucket() -> None:
    growth = recent_rate.select_growth({"dead|crm": 2, "dead|mail": 1, "accepted|report|gw": 5, "retried|crm": 9})
    assert growth == {"dead": 3, "callbacks": 5}

    found = recent_rate.parse(ring({"bucket": int(NOW) // 10 - 1, **growth}), now_seconds=NOW)
    assert (found.buckets[-1].dead, found.buckets[-2].dead) == (3, 0)


def test_an_hour_of_nothing_is_360_buckets_of_nothing_and_no_percentile() -> None:
    found = recent_rate.parse({}, now_seconds=NOW)

    assert [bucket.callbacks for bucket in found.buckets] == [0] * 360
    assert found.acknowledged.answers == 0
    assert found.acknowledged.p50_seconds is found.acknowledged.p99_seconds is None


def test_buckets_come_oldest_first_and_end_with_the_last_that_is_whole() -> None:
    current = int(NOW) // 10
    held = ring({"bucket": current, "callbacks": 7}, {"bucket": current - 1, "callbacks": 50})

    found = recent_rate.parse(held, now_seconds=NOW)

    assert (found.buckets[-1].began_seconds, found.buckets[-1].callbacks) == (1_699_999_990, 50)
    assert found.buckets[-1].callbacks_per_second == 5.0
    assert found.buckets[0].began_seconds == 1_699_999_990 - 3590
    # What is told late belongs to it still, so it is not whole yet.
    assert recent_rate.parse(held, now_seconds=1_700_000_002.9).buckets[-1].began_seconds == 1_699_999_980


def test_what_is_older_than_an_hour_is_not_shown_though_its_slot_was_not_used_since() -> None:
    old = int(NOW) // 10 - recent_rate.RING.slots

    found = recent_rate.parse(ring({"bucket": old, "callbacks": 9, "le|0.001": 9}), now_seconds=NOW)

    assert not any(bucket.callbacks for bucket in found.buckets)
    assert found.acknowledged.answers == 0


def test_refusals_are_counted_by_reason_and_sender_in_the_hour_and_its_last_ten_minutes() -> None:
    current = int(NOW) // 10
    held = ring(
        {"bucket": current, "callbacks": 5, "refused|too-large|known": 2, "refused|not-found|unknown": 9},
        {"bucket": current - 1, "refused|too-large|known": 1},
        {"bucket": current - 61, "callbacks": 7, "refused|too-large|known": 10},
        {"bucket": current - 62, "refused|of-a-later-release|known": 1, "refused|too-large|nobody": 1},
    )

    found = recent_rate.parse(held, now_seconds=NOW)

    assert [(one.reason, one.sender, one.ten_minutes, one.hour) for one in found.refused] == [
        ("too-large", "known", 3, 13),
        ("not-found", "unknown", 9, 9),
    ]
    assert found.accepted_ten_minutes == 5
    assert found.buckets[-1].refused == 1, "only whole buckets are drawn, and only senders with a valid token"


def test_unreadable_fields_are_counted_by_field_in_the_hour() -> None:
    growth = recent_rate.select_growth({"unreadable|timestamp": 3, "unreadable|of a later release": 1})
    bucket = {"bucket": 100_000, **growth, "unreadable|to": 5}
    found = recent_rate.parse({b"1": json.dumps(bucket).encode()}, now_seconds=1_000_010.0)
    assert found.unreadable == (("to", 5), ("timestamp", 3))


def test_percentiles_are_those_of_the_last_minutes_alone() -> None:
    current = int(NOW) // 10
    held = ring({"bucket": current, "le|0.001": 3, "le|0.01": 1}, {"bucket": current - 31, "le|30.0": 500})

    acknowledged = recent_rate.parse(held, now_seconds=NOW).acknowledged

    assert acknowledged.answers == 4
    assert acknowledged.p50_seconds == pytest.approx(0.0005 + 0.0005 * 2 / 3)
    assert acknowledged.p99_seconds is not None
    assert 0.005 < acknowledged.p99_seconds <= 0.01


@pytest.mark.parametrize(
    ("counts", "share", "estimate"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([4, 0, 0, 0], 0.5, 0.5),
        ([1, 1, 0, 0], 0.5, 1.0),
        ([0, 10, 0, 0], 0.99, 1.99),
        ([0, 0, 0, 1], 0.5, 4.0),
        ([99, 0, 0, 1], 0.99, 1.0),
    ],
)
def test_a_percentile_is_estimated_within_its_bucket(counts: list[int], share: float, estimate: float | None) -> None:
    assert recent_rate.estimate_percentile(counts, share, bounds=(1.0, 2.0, 4.0)) == pytest.approx(estimate)


def test_of_a_processs_figures_the_hour_has_what_was_kept_and_how_long_answers_took() -> None:
    metrics = Metrics()
    metrics.add(("accepted", "report", "one"), 5)
    metrics.add(("accepted", "reply", "two"), 2)
    metrics.add(("responses", 200), 7)
    metrics.histogram(("acknowledged",), SECONDS_BUCKETS).observe(0.002, 6)
    metrics.histogram(("commit",), SECONDS_BUCKETS).observe(0.002, 6)

    assert recent_rate.select_growth(metrics.snapshot()) == {"callbacks": 7, "le|0.0025": 6}
