"""What the parameters of `/api` may be at the edges of times and cursors."""

from datetime import UTC, datetime

import pytest

from callbacks.ops.api.parameters import parse_cursor, parse_since
from callbacks.ops.api.problems import ApiProblem
from callbacks.ops.status.table_cursor import make_cursor


@pytest.mark.parametrize(
    ("text", "year"),
    [("9999-12-31T23:59:59-14:00", 9999), ("0001-01-01T00:00:00+14:00", 1), ("2026-01-01T00:00:00Z", 2026)],
)
def test_a_time_at_the_end_of_the_calendar_stays_there(text: str, year: int) -> None:
    assert parse_since(text).year == year


def test_a_cursor_is_read_back_and_one_that_no_database_takes_is_refused() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert parse_cursor(make_cursor(at, "m-1")) == (at, "m-1")
    with pytest.raises(ApiProblem):
        parse_cursor(make_cursor(at, "m\0"))
    with pytest.raises(ApiProblem):
        parse_since("\ud800")
