"""A name may send so much at once, and then at an even rate."""

import pytest

from callbacks.ops.access.rate_limiter import RateLimiter
from tests.clock import Clock


@pytest.mark.parametrize(("per_minute", "burst", "interval"), [(600, 60, 0.1), (60, 6, 1.0), (1, 1, 60.0)])
def test_a_tenth_may_come_at_once_and_the_rest_evenly(per_minute: int, burst: int, interval: float) -> None:
    clock = Clock()
    limiter = RateLimiter(per_minute, clock)

    assert [limiter.take("ann") for _ in range(burst)] == [0] * burst
    wait = limiter.take("ann")
    assert max(1, interval) <= wait <= interval + 1
    assert limiter.take("eva") == 0
    clock.seconds += interval
    assert limiter.take("ann") == 0
    assert limiter.take("ann") > 0
    clock.seconds += 60
    assert [limiter.take("ann") for _ in range(burst + 1)][-1] > 0
