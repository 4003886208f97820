"""The pause that a target asks for with Retry-After, and what is kept of a response's body."""

import random
from datetime import UTC, datetime

import pytest

from workers.handlers.forward.responses import (
    MAX_BODY_BYTES,
    EventRefused,
    Response,
    TargetFailed,
    interpret_response,
    parse_retry_after,
    printable,
)

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("3600", 3600.0),
        ("86400", 3600.0),
        ("9" * 10, 3600.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Monday, 23-Nov-26 12:00:30 GMT", 30.0),
        ("Mon Nov 23 12:00:30 2026", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("Mon, 23 Nov 2026 13:00:30 +0100", 30.0),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 3600.0),
    ],
)
def test_retry_after_is_parsed_and_bounded(value: str, seconds: float) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *("", "soon", "-5", "1.5", "1e3", "9" * 5000, "Mon, 99 Nov 2026 12:00:30 GMT", "\u0661", "Mon", ","),
        *("nan", "inf", "-inf", "+5", "0x10", "1_000", "\xb2", "5 5", "5;", "\x00", "-" + "9" * 30),
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 9999999999 00:00:00 GMT",
        "Mon, 23 Nov 2026 12:00:99999999999999999999 GMT",
        "Mon, 23 Nov 2026 12:00:30 +99999999999999999",
        "Mon, 23 Nov 2026 12:00:30 -" + "9" * 5000,
        "Mon, 00 Jan 0000 00:00:00 GMT",
    ],
)
def test_a_time_that_is_none_is_as_good_as_left_out(value: str) -> None:
    assert parse_retry_after(value, now=NOW) is None


def test_no_value_of_retry_after_makes_it_raise() -> None:
    parts = ("Mon,", "23", "Nov", "2026", "12:00:30", "GMT", "+0100", "9" * 20, "-1", "(", '"', "\xa0", ":", "\x85", "")
    drawn = random.Random(1)

    for _ in range(5_000):
        value = " ".join(drawn.choices(parts, k=drawn.randint(1, 7)))
        seconds = parse_retry_after(value, now=NOW)
        assert seconds is None or 0 <= seconds <= 3600, value


def test_retry_after_counts_only_for_statuses_that_concern_the_whole_service() -> None:
    pauses = {
        status: result.retry_after_seconds
        for status in range(400, 600)
        if status != 410  # Gone has a pause of its own
        if isinstance(result := interpret_response(Response(status, "9", b""), now=NOW), TargetFailed)
    }

    assert {status for status, seconds in pauses.items() if seconds is not None} == {429, 503}


def test_only_the_start_of_a_body_is_kept_and_it_cannot_control_a_terminal() -> None:
    result = interpret_response(Response(400, None, b"\x1b]0;owned\x07\n" + "é".encode() * MAX_BODY_BYTES), now=NOW)

    assert isinstance(result, EventRefused)
    assert result.reason.startswith("answered 400: ]0;owned  éé")
    assert result.reason.isprintable()
    assert len(result.reason.encode()) <= MAX_BODY_BYTES + 20


def test_bytes_that_are_not_text_are_replaced() -> None:
    assert printable(b"\xff\xfeabc\x00\x80") == "\ufffd\ufffdabc \ufffd"
    assert printable("\u202eevil".encode()) == "evil"
