"""Refused callbacks are counted for the ten minutes in which the gateway tries again."""

from ingest.spool.report import RefusalCounter
from tests.clock import Clock


def test_without_refusals_there_is_no_summary() -> None:
    assert RefusalCounter(now_seconds=Clock()).summary() is None


def test_the_first_of_them_decides_how_much_time_is_left() -> None:
    clock = Clock()
    refusals = RefusalCounter(now_seconds=clock)
    refusals.add(3)
    clock.seconds += 240
    refusals.add(2)
    summary = refusals.summary()
    assert summary is not None
    assert (summary.callbacks, summary.since_seconds, summary.left_seconds) == (5, 1000.0, 360.0)


def test_the_time_left_is_never_negative() -> None:
    clock = Clock()
    refusals = RefusalCounter(now_seconds=clock)
    for _ in range(8):
        refusals.add(1)
        clock.seconds += 100
    summary = refusals.summary()
    assert summary is not None
    assert (summary.callbacks, summary.left_seconds) == (8, 0.0)


def test_refusals_are_forgotten_after_the_gateways_last_attempt() -> None:
    clock = Clock()
    refusals = RefusalCounter(now_seconds=clock)
    refusals.add(3)
    clock.seconds += 601
    assert refusals.summary() is None
    refusals.add(1)
    summary = refusals.summary()
    assert summary is not None
    assert (summary.callbacks, summary.left_seconds) == (1, 600.0)
