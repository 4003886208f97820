"""An outage of Redis is two lines in a process's log, however many places notice it, RQ among them."""

import logging

import pytest
import redis

from workers.runtime import rq_lines
from workers.runtime.redis_availability import RedisAvailability, redis_availability

GONE = redis.ConnectionError("Error 111 connecting to localhost:1. Connection refused.")


def test_an_outage_is_logged_when_it_begins_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    availability = RedisAvailability()
    availability.succeeded()
    for _ in range(3):
        availability.failed(GONE, queue="expand")
    for _ in range(3):
        availability.succeeded()
    availability.failed(GONE)

    begins = 'error="cannot connect to localhost:1: Connection refused"'
    assert [record.getMessage() for record in caplog.records] == [
        f"action=redis_unavailable queue=expand {begins}",
        "action=redis_available seconds=0",
        f"action=redis_unavailable {begins}",
    ]


@pytest.mark.parametrize(
    ("message", "error", "is_written"),
    [
        ("Worker %s: found an unhandled exception, quitting...", ValueError(), True),
        ("Worker %s: found an unhandled exception, quitting...", GONE, False),
        ("Worker %s: could not connect to Redis instance: %s retrying in %d seconds...", None, False),
        ("Worker %s: Redis connection timeout, quitting...", None, False),
        ("Worker %s: job %s: exception raised while executing (%s)\n%s", None, False),
        ("Worker %s: cold shut down", None, True),
    ],
)
def test_a_line_of_rq_is_written_if_no_line_of_ours_says_the_same(
    message: str, error: Exception | None, is_written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed: list[BaseException] = []
    monkeypatch.setattr(redis_availability, "failed", noticed.append)
    info = None if error is None else (type(error), error, None)
    record = logging.LogRecord("rq.worker", logging.ERROR, "", 0, message, (), info)

    assert rq_lines._is_unknown(record) == is_written
    assert noticed == ([GONE] if error is GONE else [])
