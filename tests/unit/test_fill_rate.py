"""In how many seconds a spool is full, from its sizes of the last minute."""

import math

import pytest

from ingest.spool.fill_rate import WINDOW_SECONDS, FillRate
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_it_is_what_is_left_at_the_rate_of_the_last_minute(clock: Clock) -> None:
    rate = FillRate(now_seconds=clock)
    for size_bytes in (0, 100, 200, 300):
        rate.add(size_bytes)
        clock.seconds += 10
    # 300 bytes in 40 seconds
    assert rate.seconds_until(1050) == pytest.approx(100)
    assert rate.seconds_until(300) == rate.seconds_until(10) == 0


def test_a_spool_that_gets_nothing_more_or_is_drained_is_never_full(clock: Clock) -> None:
    rate = FillRate(now_seconds=clock)
    assert rate.seconds_until(100) == math.inf
    rate.add(10)
    assert rate.seconds_until(100) == math.inf
    clock.seconds += 1
    rate.add(20)
    soon = rate.seconds_until(100)
    clock.seconds += 30
    assert soon < rate.seconds_until(100) < math.inf
    rate.add(5)
    assert rate.seconds_until(100) == math.inf
    clock.seconds += WINDOW_SECONDS + 1
    assert rate.seconds_until(100) == math.inf


def test_ten_thousand_batches_within_a_second_are_few_sizes(clock: Clock) -> None:
    rate = FillRate(now_seconds=clock)
    for size_bytes in range(10_000):
        rate.add(size_bytes)
        clock.seconds += 0.0001
    assert len(rate._sizes) <= 3
    assert rate.seconds_until(19_999) == pytest.approx(1.0, rel=0.01)
