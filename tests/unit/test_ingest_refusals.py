"""Refusals are counted against the ten minutes for which the gateway tries."""

from ingest.spool.report import RefusalCounter
from tests.clock import Clock


def test_nothing_refused_is_nothing_told() -> None:
    assert RefusalCounter(now_seconds=Clock()).summary() is None


def test_the_first_of_them_decides_how_much_time_is_left() -> None:
    clock = Clock()
    refusals = RefusalCounter(now_seconds=clock)
    refusals.add(3)
    clock.seconds += 240
    refusals.add(2)
    told = refusals.summary()
    assert told is not None
    assert (told.callbacks, told.since_seconds, told.left_seconds) == (5, 1000.0, 360.0)


def test_time_that_is_over_is_not_less_than_nothing() -> None:
    clock = Clock()
    refusals = RefusalCounter(now_seconds=clock)
    for _ in range(8):
        refusals.add(1)
        clock.seconds += 100
    told = refusals.summary()
    assert told is not None
    assert (told.callbacks, told.left_seconds) == (8, 0.0)


def test_what_the_gateway_has_long_sent_again_is_forgotten() -> None:
    clock = Clock()
    refusals = RefusalCounter(now_seconds=clock)
    refusals.add(3)
    clock.seconds += 601
    assert refusals.summary() is None
    refusals.add(1)
    told = refusals.summary()
    assert told is not None
    assert (told.callbacks, told.left_seconds) == (1, 600.0)
