"""When leases may end by Redis's clock: only if it ran as this process's clock did since it was last read."""

import pytest

from workers.runtime.lease_clock import LeaseClock, LeaseTime

HOUR = 3600.0
FIRST, SECOND = "replication id of one primary", "of another"


class Clocks:
    """Redis's clock and this process's, which `pass_seconds` moves."""

    def __init__(self) -> None:
        self.redis, self.own, self.reply_seconds = 1_700_000_000.75, 100.0, 0.0

    def time(self) -> tuple[int, int]:
        """Reply as Redis does to TIME."""
        read = self.redis
        self.pass_seconds(self.reply_seconds)
        return int(read), int(read % 1 * 1e6)

    def pass_seconds(self, seconds: float, *, step_seconds: float = 0.0) -> None:
        self.own += seconds
        self.redis += seconds + step_seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def lease_clock(clocks: Clocks) -> LeaseClock:
    made = LeaseClock(clocks, now_seconds=lambda: clocks.own)
    made.read(FIRST)
    return made


@pytest.mark.parametrize(
    ("step_seconds", "has_stepped"),
    [(0.0, False), (1.0, False), (-1.0, False), (-60.0, False), (11.0, True), (45.0, True), (HOUR, True)],
)
@pytest.mark.parametrize("pause_seconds", [0.2, 5.0, HOUR])
def test_a_step_forward_is_noticed(
    clocks: Clocks, lease_clock: LeaseClock, step_seconds: float, pause_seconds: float, *, has_stepped: bool
) -> None:
    clocks.pass_seconds(pause_seconds, step_seconds=step_seconds)

    assert lease_clock.read(FIRST) == LeaseTime(int(clocks.redis), has_stepped=has_stepped)


def test_a_step_is_noticed_once(clocks: Clocks, lease_clock: LeaseClock) -> None:
    clocks.pass_seconds(5, step_seconds=60)
    assert lease_clock.read(FIRST).has_stepped
    clocks.pass_seconds(20)

    assert not lease_clock.read(FIRST).has_stepped


def test_a_clock_that_is_set_back_and_forward_again_has_stepped(clocks: Clocks, lease_clock: LeaseClock) -> None:
    clocks.pass_seconds(5, step_seconds=-60)
    assert not lease_clock.read(FIRST).has_stepped
    clocks.pass_seconds(5, step_seconds=60)

    assert lease_clock.read(FIRST).has_stepped


@pytest.mark.parametrize("replies", [(5.0, 0.0), (0.0, 5.0), (4.9, 0.1)])
def test_a_slow_reply_is_no_step(clocks: Clocks, replies: tuple[float, float]) -> None:
    lease_clock = LeaseClock(clocks, now_seconds=lambda: clocks.own)
    for reply_seconds in replies:
        clocks.reply_seconds = reply_seconds
        assert not lease_clock.read(FIRST).has_stepped
        clocks.pass_seconds(5)


def test_another_primary_has_another_clock(clocks: Clocks, lease_clock: LeaseClock) -> None:
    clocks.pass_seconds(5)
    assert lease_clock.read(SECOND).has_stepped
    clocks.pass_seconds(5)

    assert not lease_clock.read(SECOND).has_stepped
