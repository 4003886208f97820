"""Which of a message's statuses is the current one, in whatever order they came."""

import itertools
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.handlers.sql import current_status
from workers.handlers.sql.current_status import TableRow

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
GATEWAYS = ("ACCEPTD", "UNKNOWN", "EXPIRED", "DELETED", "UNDELIV", "REJECTD", "DELIVRD", "SEEN")


def status(name: str, seconds: float | None = 0, **columns: Any) -> TableRow:
    """Return a row of `statuses` for a report that occurred `seconds` after noon (None: no time)."""
    occurred_at = None if seconds is None else NOON + timedelta(seconds=seconds)
    return {
        "event_id": f"{name}-{seconds}",
        "message_id": "m",
        "status": name,
        "is_final": name not in ("ACCEPTD", "UNKNOWN"),
        "channel": "SMS",
        "occurred_at": occurred_at,
        "received_at": NOON,
        "error_code": 0,
        "api_job_id": "job",
        "client_job_id": None,
        "client_message_id": None,
        "recipient": "35679000123",
        "sender": "Fortytwo",
        "source": "main",
    } | columns


def current(*statuses: TableRow) -> TableRow:
    (row,) = current_status.message_rows(statuses)
    return row


SEVEN = (
    status("ACCEPTD", 0, channel="INTERNAL", sender=None),
    status("ACCEPTD", 1, channel="VIBER", received_at=NOON + timedelta(seconds=2)),
    status("EXPIRED", 60, channel="VIBER", error_code=943),
    status("UNDELIV", 61, channel="VIBER", client_job_id="autumn"),
    status("SENT_ON", None, recipient=None),
    status("DELIVRD", 70, source="other"),
    status("SEEN", 65, channel="VIBER", received_at=NOON - timedelta(seconds=2)),
)


def test_all_5040_orders_of_seven_statuses_have_the_same_result() -> None:
    ends = {tuple(current(*order).items()) for order in itertools.permutations(SEVEN)}
    (end,) = ends
    row = dict(end)
    assert (row["status"], row["channel"], row["status_at"]) == ("SEEN", "VIBER", NOON + timedelta(seconds=65))
    assert (row["accepted_at"], row["delivered_at"]) == (NOON, NOON + timedelta(seconds=65))
    assert (row["first_at"], row["last_at"]) == (NOON, NOON + timedelta(seconds=70))
    assert row["last_received_at"] - row["first_received_at"] == timedelta(seconds=4)
    assert (row["recipient"], row["client_job_id"]) == ("35679000123", "autumn")


def test_seen_before_delivered_before_accepted_ends_as_seen() -> None:
    assert current(status("SEEN", 3), status("DELIVRD", 2), status("ACCEPTD", 1))["status"] == "SEEN"


def test_a_message_that_expired_and_was_then_delivered_by_sms_ends_as_delivered() -> None:
    row = current(status("DELIVRD", 70), status("EXPIRED", 60, channel="VIBER"))
    assert (row["status"], row["channel"], row["is_final"]) == ("DELIVRD", "SMS", True)


@pytest.mark.parametrize("first", GATEWAYS)
@pytest.mark.parametrize("second", GATEWAYS)
def test_the_rank_of_a_status_comes_before_its_time(first: str, second: str) -> None:
    orders = {
        "ACCEPTD": 1,
        "UNKNOWN": 1,
        "EXPIRED": 2,
        "DELETED": 2,
        "UNDELIV": 2,
        "REJECTD": 2,
        "DELIVRD": 3,
        "SEEN": 4,
    }
    winner = first if orders[first] > orders[second] else second  # of equals the later one, which is `second`
    assert current(status(first, 0), status(second, 0.001))["status"] == winner


def test_of_statuses_with_one_rank_the_latest_is_current_and_one_without_time_comes_last() -> None:
    assert current(status("UNDELIV", 5), status("EXPIRED", 4))["status"] == "UNDELIV"
    assert current(status("UNDELIV", None), status("EXPIRED", -(10**10)))["status"] == "EXPIRED"


def test_an_unknown_status_counts_as_progress_and_hides_no_final_status() -> None:
    assert current(status("ACCEPTD", 0), status("ROUTED", 1))["status"] == "ROUTED"
    assert current(status("ACCEPTD", 1), status("ROUTED", 0))["status"] == "ACCEPTD"
    assert current(status("UNDELIV", 0), status("ROUTED", 1))["status"] == "UNDELIV"


def test_each_message_has_a_row_of_its_own_sorted_by_id() -> None:
    rows = current_status.message_rows([status("SEEN", message_id=name) for name in ("b", "a", "b")])
    assert [row["message_id"] for row in rows] == ["a", "b"]


@pytest.mark.parametrize("time", [datetime(1, 1, 1, tzinfo=UTC), NOON, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)])
def test_status_ranks_sort_as_times_do_from_the_first_year_to_the_last(time: datetime) -> None:
    def status_rank(at: datetime | None) -> str:
        return current_status.status_rank("ACCEPTD", at, "")

    assert status_rank(None) < status_rank(time)
    assert len(status_rank(None)) == len(status_rank(time))
    if time.year > 1:
        assert status_rank(time - timedelta(milliseconds=1)) < status_rank(time)


rows = st.builds(
    status,
    st.sampled_from((*GATEWAYS, "ROUTED")),
    st.none() | st.integers(-5, 5),
    channel=st.none() | st.sampled_from(("SMS", "VIBER")),
    api_job_id=st.none() | st.sampled_from(("a", "b")),
)


@given(st.lists(rows, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_order_grouping_and_repetition_do_not_change_the_result(found: list[TableRow], random: Any) -> None:
    # The same event has the same row each time.
    statuses = list({row["event_id"]: row for row in found}.values())
    end = current(*statuses)
    repeated = [*statuses, random.choice(statuses)]
    random.shuffle(repeated)
    cut = random.randint(1, len(repeated))
    parts = [current(*part) for part in (repeated[:cut], repeated[cut:]) if part]
    assert reduce(current_status.merge, parts) == end
