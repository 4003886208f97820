"""What the values of a record mean, however they are written: times, senders, absent values, numbers as text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import normalize, wire
from shared.schema import Record


def record(**keys: Any) -> Record:
    """Return a report with these keys, in addition to the two required ones."""
    return records({"message_id": "1", "status": "DELIVRD", **keys})[0]


def records(*reports: dict[str, Any]) -> list[Record]:
    callback = wire.read(json.dumps({"data": reports}).encode(), "status")
    return [read for read, _ in callback.records if isinstance(read, Record)]


# The times of the specification's example, in each unit that the gateway's pages use.
@pytest.mark.parametrize(
    ("keys", "unix_ms"),
    [
        ({"timestamp": 1443165174}, 1443165174000),
        ({"timestamp": 1443165174145}, 1443165174145),
        ({"timestamp": 1443165174, "micro_timestamp": 1443165174145}, 1443165174145),
        ({"timestamp": 1443165174145, "micro_timestamp": 1443165174145999}, 1443165174145),
        ({"timestamp": "1443165174", "micro_timestamp": "1443165174145"}, 1443165174145),
        ({"timestamp": "1443165174", "micro_timestamp": ""}, 1443165174000),
        ({"timestamp": 1443165174, "micro_timestamp": None}, 1443165174000),
        ({"timestamp": 1443165174, "micro_timestamp": 0}, 1443165174000),
        ({"timestamp": 1443165174, "micro_timestamp": "-0"}, 1443165174000),
        ({"timestamp": 1443165174, "micro_timestamp": -99999999999999}, 1443165174000),
        ({"timestamp": 0, "micro_timestamp": 1443165174145}, 1443165174145),
        ({"timestamp": 0, "micro_timestamp": 0}, None),
        ({"timestamp": 0}, None),
        ({"timestamp": ""}, None),
        ({"timestamp": None}, None),
        ({}, None),
        # The "no date" of .NET and Java is the year 1; earlier times are not dates.
        ({"timestamp": -62135596800}, -62135596800000),
        ({"timestamp": -99999999999}, None),
        ({"micro_timestamp": -99999999999999}, None),
    ],
)
def test_the_unit_of_a_time_follows_from_its_size(keys: dict[str, Any], unix_ms: int | None) -> None:
    assert normalize.unix_ms(record(**keys)) == unix_ms


@given(st.integers(min_value=10**8, max_value=4 * 10**9), st.integers(0, 999), st.integers(0, 999))
def test_one_moment_in_any_unit_is_the_same_moment(seconds: int, ms: int, us: int) -> None:
    # From March 1973 on (10^8 seconds); before it, milliseconds look like seconds.
    moment = seconds * 1000 + ms
    assert normalize.unix_ms(record(timestamp=seconds)) == seconds * 1000
    assert normalize.unix_ms(record(timestamp=seconds, micro_timestamp=moment)) == moment
    assert normalize.unix_ms(record(timestamp=moment, micro_timestamp=moment * 1000 + us)) == moment
    assert normalize.unix_ms(record(timestamp=str(moment), micro_timestamp=str(moment * 1000 + us))) == moment


@pytest.mark.parametrize(
    ("keys", "sender"),
    [
        ({"from": "Fortytwo"}, "Fortytwo"),
        ({"sms_from": "Fortytwo", "viber_from": ""}, "Fortytwo"),
        ({"sms_from": "", "viber_from": "Viber42"}, "Viber42"),
        ({"from": "", "sms_from": None, "viber_from": 4242}, "4242"),
        ({"from": None}, None),
        ({}, None),
    ],
)
def test_the_sender_is_in_one_of_three_keys(keys: dict[str, Any], sender: str | None) -> None:
    assert normalize.sender(record(**keys)) == sender


@pytest.mark.parametrize("absent", [{}, {"error_code": None}, {"error_code": ""}])
def test_absent_null_and_empty_are_alike(absent: dict[str, Any]) -> None:
    read = record(**absent)
    assert normalize.integer(read.error_code) is None
    assert normalize.text(read.client_message_id) is None


@pytest.mark.parametrize(("given", "code"), [(943, 943), ("943", 943), (0, 0), ("0", 0), (-5, -5), ("-5", -5)])
def test_an_integer_may_come_as_digits(given: int | str, code: int) -> None:
    assert normalize.integer(record(error_code=given).error_code) == code
