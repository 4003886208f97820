"""The log: no token in it, and no line per request."""

import logging

import pytest

from ingest import log
from ingest.log import Seldom, TokenMask

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
    ],
)
def test_no_path_shows_the_token_wherever_it_stands(path: str) -> None:
    assert "s3cr" not in masked("%s", path)


def test_a_wrong_token_is_masked_too_as_it_may_be_yesterdays() -> None:
    assert masked("%s", "/callbacks/yesterday/status") == "/callbacks/***/status"


def test_the_message_itself_is_masked_and_numbers_stay_numbers() -> None:
    assert masked("no such thing: /callbacks/abc %d", 7) == "no such thing: /callbacks/*** 7"


def test_arguments_by_name_are_masked() -> None:
    record = logging.LogRecord("uvicorn.error", logging.INFO, "", 0, "%(path)s", ({"path": "/callbacks/abc"},), None)
    TokenMask([]).filter(record)
    assert record.getMessage() == "/callbacks/***"


def test_the_mask_can_be_taken_off_again() -> None:
    logger = logging.getLogger("uvicorn.access")
    before = list(logger.filters)
    unmask = log.mask([SECRET])
    assert len(logger.filters) == len(before) + 1
    unmask()
    assert logger.filters == before


def test_what_happens_often_is_told_seldom_with_how_often_it_was(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    seldom = Seldom(every_seconds=10, now_seconds=lambda: now)
    for _ in range(1000):
        seldom.tell("action=refused status=403", "address=192.0.2.1")
    seldom.tell("action=refused status=404", "")
    now = 10.0
    seldom.tell("action=refused status=403", "address=192.0.2.2")
    assert [record.getMessage() for record in caplog.records] == [
        "action=refused status=403 count=1 address=192.0.2.1",
        "action=refused status=404 count=1 ",
        "action=refused status=403 count=1000 address=192.0.2.2",
    ]


def test_a_fault_tells_its_place_but_not_its_message(caplog: pytest.LogCaptureFixture) -> None:
    number, text = "35699" + "000001", "hello " + "Maria"
    try:
        try:
            raise ValueError(number)
        except ValueError as exc:
            raise KeyError(text) from exc
    except KeyError as exc:
        log.fault("somewhere", exc)
    assert "action=fault where=somewhere KeyError" in caplog.text
    assert "caused by ValueError" in caplog.text
    assert "raise KeyError(text) from exc" in caplog.text
    assert number not in caplog.text
    assert text not in caplog.text
