"""Whatever stands in Redis for a time is read as one, the nearest that a calendar holds."""

import pytest

from shared.events import rfc3339
from shared.stored_times import stored_ms, stored_time


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (1443165176020, "2015-09-25T07:12:56.020Z"),
        (b"1443165176020", "2015-09-25T07:12:56.020Z"),
        ("1443165176020.0", "2015-09-25T07:12:56.020Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1e15, "9999-12-30T00:00:00.000Z"),
        (float("inf"), "9999-12-30T00:00:00.000Z"),
        pytest.param(10**400, "9999-12-30T00:00:00.000Z", id="a very large int"),
        pytest.param(b"9" * 400, "9999-12-30T00:00:00.000Z", id="many digits"),
        (b"1e+17", "9999-12-30T00:00:00.000Z"),
        (-1e15, "0001-01-02T00:00:00.000Z"),
        (float("-inf"), "0001-01-02T00:00:00.000Z"),
        pytest.param(-(10**400), "0001-01-02T00:00:00.000Z", id="a very small int"),
        (float("nan"), "1970-01-01T00:00:00.000Z"),
        (b"nan", "1970-01-01T00:00:00.000Z"),
        (b"", "1970-01-01T00:00:00.000Z"),
        (b"yesterday", "1970-01-01T00:00:00.000Z"),
        (b"\xff", "1970-01-01T00:00:00.000Z"),
    ],
)
def test_a_stored_time(value: float | str | bytes, time: str) -> None:
    assert rfc3339(stored_time(value)) == time


def test_no_millisecond_is_lost() -> None:
    assert [stored_ms(str(1_795_000_000_000 + n)) for n in range(1000)] == [1_795_000_000_000 + n for n in range(1000)]
