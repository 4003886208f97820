"""The web process's log: no message of an unexpected exception is in it."""

import pytest

from ingest import log


def test_an_unexpected_error_is_logged_with_its_place_but_not_its_message(caplog: pytest.LogCaptureFixture) -> None:
    number, text = "35699" + "000001", "hello " + "Maria"
    try:
        try:
            raise ValueError(number)
        except ValueError as exc:
            raise KeyError(text) from exc
    except KeyError as exc:
        log.unexpected_error("somewhere", exc)
    assert "action=unexpected_error where=somewhere count=1 error=KeyError" in caplog.text
    assert "caused by ValueError" in caplog.text
    assert "raise KeyError(text) from exc" in caplog.text
    assert number not in caplog.text
    assert text not in caplog.text
