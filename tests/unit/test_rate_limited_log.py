"""One line of each kind per interval, with how often it happened since the last line."""

import logging

import pytest

from shared.rate_limited_log import MAX_KINDS, LineCounter, RateLimitedLog
from shared.structured_log import get_logger
from tests.clock import Clock

MESSAGE = "35699000001"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limited_log(clock: Clock) -> RateLimitedLog:
    return RateLimitedLog(get_logger("callbacks.test"), interval_seconds=10, now_seconds=clock)


def test_a_warning_of_each_kind_is_logged_once_per_interval_with_how_often_it_happened(
    limited_log: RateLimitedLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        limited_log.warning("refused", {"status": 403}, address="192.0.2.1")
    limited_log.warning("refused", {"status": 404})
    clock.seconds += 10
    limited_log.warning("refused", {"status": 403}, address="192.0.2.2")

    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "action=refused status=403 count=1 address=192.0.2.1"),
        (logging.WARNING, "action=refused status=404 count=1"),
        (logging.WARNING, "action=refused status=403 count=1000 address=192.0.2.2"),
    ]


def test_an_exception_is_logged_with_its_places_but_not_its_message(
    limited_log: RateLimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        try:
            raise ValueError(MESSAGE)
        except ValueError as exc:
            raise KeyError(MESSAGE) from exc
    except KeyError as exc:
        limited_log.exception("loop_failed", exc, loop="drain")

    (record,) = caplog.records
    line = record.getMessage()
    assert record.levelno == logging.ERROR
    assert line.startswith("action=loop_failed loop=drain count=1 error=KeyError traceback=")
    assert "test_rate_limited_log.py" in line
    assert "raise KeyError(MESSAGE) from exc" in line
    assert "caused by ValueError" in line
    assert MESSAGE not in line


def test_exceptions_are_of_one_kind_if_their_action_type_and_innermost_place_are_the_same(
    limited_log: RateLimitedLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(error: type[Exception]) -> None:
        raise error(MESSAGE)

    def write(action: str, error: type[Exception]) -> None:
        try:
            fail(error)
        except error as exc:
            limited_log.exception(action, exc)

    for _ in range(5):
        write("first", ValueError)
    write("second", ValueError)
    write("first", KeyError)
    clock.seconds += 10
    write("first", ValueError)

    lines = [record.getMessage().partition(" traceback=")[0] for record in caplog.records]
    assert lines == [
        "action=first count=1 error=ValueError",
        "action=second count=1 error=ValueError",
        "action=first count=1 error=KeyError",
        "action=first count=5 error=ValueError",
    ]


def test_the_memory_of_kinds_is_bounded(clock: Clock) -> None:
    counter = LineCounter(interval_seconds=10, now_seconds=clock)
    assert all(counter.count((f"kind {number}",)) == 1 for number in range(10 * MAX_KINDS))
    assert len(counter._kinds) <= MAX_KINDS
