"""The log: no token in it, and no line per request."""

import logging

import pytest

from ingest import log
from ingest.log import TokenMask
from shared.rate_limited_log import RateLimitedLog
from tests.clock import Clock

SECRET = "s3cr<t>:1"


def masked(message: str, *args: object) -> str:
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, message, args, None)
    assert TokenMask([SECRET]).filter(record)
    return record.getMessage()


def test_the_access_log_shows_no_token() -> None:
    line = masked('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "POST", "/callbacks/s3cr%3Ct%3E%3A1/status", "1.1", 200)
    assert line == '127.0.0.1:1 - "POST /callbacks/***/status HTTP/1.1" 200'


@pytest.mark.parametrize(
    "path",
    [
        "/callbacks/s3cr<t>:1",
        "/callbacks/s3cr%3Ct%3E:1?x=1",
        "//callbacks//s3cr<t>:1/status",
        "/CALLBACKS/s3cr<t>:1/reply",
        "/somewhere/else/s3cr<t>:1",
        "/callbacks?token=s3cr%3Ct%3E%3A1",
        "/callbacks?token=s3cr%253Ct%253e%253A1",
        "/x?token=%733%63r<t>%3A1",
    ],
)
def test_no_path_shows_the_token_wherever_it_stands(path: str) -> None:
    assert "s3cr" not in masked("%s", path)


def test_a_wrong_token_is_masked_too_as_it_may_be_an_old_one() -> None:
    assert masked("%s", "/callbacks/yesterday/status") == "/callbacks/***/status"


def test_the_message_itself_is_masked_and_numbers_stay_numbers() -> None:
    assert masked("no such thing: /callbacks/abc %d", 7) == "no such thing: /callbacks/*** 7"


def test_arguments_by_name_are_masked() -> None:
    record = logging.LogRecord("uvicorn.error", logging.INFO, "", 0, "%(path)s", ({"path": "/callbacks/abc"},), None)
    TokenMask([]).filter(record)
    assert record.getMessage() == "/callbacks/***"


@pytest.mark.parametrize("value", [f"/x/{SECRET}".encode(), ValueError(SECRET), {"path": SECRET}, [SECRET]])
def test_whatever_carries_the_token_is_masked(value: object) -> None:
    assert "s3cr" not in masked("%s %d", value, 7)


def test_an_exception_of_the_server_is_logged_with_its_places_but_without_token_and_message() -> None:
    number = "35699" + "000001"
    try:
        try:
            raise LookupError(SECRET)
        except LookupError as exc:
            raise ValueError(number) from exc
    except ValueError as exc:
        failure = (type(exc), exc, exc.__traceback__)
    record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "Exception in ASGI application", (), failure)
    assert TokenMask([SECRET]).filter(record)
    line = logging.Formatter().format(record)
    assert "raise ValueError(number) from exc" in line
    assert "caused by LookupError" in line
    assert SECRET not in line
    assert number not in line


def test_warnings_of_the_server_are_limited_and_its_information_is_not() -> None:
    clock = Clock()
    passes = log.limit_warnings(RateLimitedLog(log.logger, interval_seconds=10, now_seconds=clock))

    def passed(message: str, level: int = logging.WARNING) -> bool:
        return passes(logging.LogRecord("uvicorn.error", level, "", 0, message, (), None))

    complaint = "ASGI callable returned without completing response."
    assert [passed(complaint) for _ in range(100)] == [True] + [False] * 99
    assert passed("Exception in ASGI application")
    assert all(passed("Started server process", logging.INFO) for _ in range(3))
    clock.seconds += 10
    assert [passed(complaint) for _ in range(2)] == [True, False]


def test_the_filters_can_be_removed() -> None:
    logger = logging.getLogger("uvicorn.access")
    before = list(logger.filters)
    remove = log.install_filters([SECRET])
    assert len(logger.filters) == len(before) + 1
    remove()
    assert logger.filters == before


def test_an_unexpected_error_is_logged_with_its_place_but_not_its_message(caplog: pytest.LogCaptureFixture) -> None:
    number, text = "35699" + "000001", "hello " + "Maria"
    try:
        try:
            raise ValueError(number)
        except ValueError as exc:
            raise KeyError(text) from exc
    except KeyError as exc:
        log.unexpected_error("somewhere", exc)
    assert "action=unexpected_error where=somewhere count=1 KeyError" in caplog.text
    assert "caused by ValueError" in caplog.text
    assert "raise KeyError(text) from exc" in caplog.text
    assert number not in caplog.text
    assert text not in caplog.text
