"""Quantities and the chart: what a person reads, and where the line is drawn."""

import pytest

from callbacks.ops.html import charts
from callbacks.ops.status import quantities
from callbacks.ops.status.backlog_history import events_waiting
from shared.recent_rate import Bucket


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "\u2013"),
        (0, "0 s"),
        (0.0032, "3.2 ms"),
        (0.024, "24 ms"),
        (1.44, "1.4 s"),
        (59, "59 s"),
        (300, "5 min"),
        (7800, "2 h 10 min"),
        (3 * 86400 + 4 * 3600, "3 d 4 h"),
    ],
)
def test_a_duration_has_its_unit_and_no_more_digits_than_help(seconds: float | None, shown: str) -> None:
    assert quantities.format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 bytes"), (1, "1 byte"), (1023, "1,023 bytes"), (1 << 20, "1 MiB"), (5 << 40, "5 TiB")]
)
def test_a_size_has_its_unit(number: int, shown: str) -> None:
    assert quantities.format_size(number) == shown


@pytest.mark.parametrize(
    ("per_second", "shown"), [(0, "0"), (0.01, "below 0.1"), (0.3, "0.3"), (4.72, "4.7"), (1250.4, "1,250")]
)
def test_a_rate_that_is_not_quite_nothing_does_not_look_like_nothing(per_second: float, shown: str) -> None:
    assert quantities.format_rate(per_second) == shown


def test_the_chart_is_a_step_for_each_bucket_below_a_round_number() -> None:
    chart = charts.draw_recent_rate([Bucket(0, 0), Bucket(10, 150), Bucket(20, 150), Bucket(30, 75)])
    assert chart.labels == ("20", "10", "0")
    assert chart.edge == "M0 100H1V25H3V62.5H4"
    assert chart.area == f"{chart.edge}V100H0Z"
    assert chart.summary == (
        "375 callbacks in the last hour, 9.4 per second on average; at most 15 per second, in the 10 seconds "
        "from 00:00:10 UTC."
    )


def test_refused_callbacks_are_a_line_of_their_own() -> None:
    chart = charts.draw_recent_rate([Bucket(0, 50), Bucket(10, 50, refused=100)])
    assert (chart.labels[0], chart.edge, chart.refused) == ("10", "M0 50H2", "M0 100H1V0H2")
    assert chart.summary.endswith(" 100 were refused (the red line).")
    assert charts.draw_recent_rate([Bucket(0, 50)]).refused == ""


def test_dead_letters_are_a_line_that_can_be_seen_among_many_callbacks() -> None:
    chart = charts.draw_recent_rate([Bucket(0, 10_000), Bucket(10, 10_000, dead=1)])
    assert (chart.labels[0], chart.dead) == ("1,000", "M1 98H2")
    assert chart.summary.endswith(" 1 dead letter (the dashed line).")
    assert charts.draw_recent_rate([Bucket(0, 50)]).dead == ""


def test_each_minute_says_its_values() -> None:
    buckets = [Bucket(10 * number, 100, refused=number == 2, dead=2 * (number == 3)) for number in range(8)]
    chart = charts.draw_recent_rate(buckets, {50: 7, 40: 9})
    assert [(minute.x, minute.width, minute.title) for minute in chart.minutes] == [
        (0, 6, "60 s from 00:00:00 UTC: 600 accepted, 1 refused, 2 dead letters, 7 events waiting"),
        (6, 2, "20 s from 00:01:00 UTC: 200 accepted"),
    ]


def test_the_events_that_waited_are_a_line_with_gaps_where_that_is_unknown() -> None:
    buckets = [Bucket(10 * number, 0) for number in range(5)]
    backlog = charts.draw_recent_rate(buckets, {0: 0, 10: 20, 30: 5, 990: 9_999}).backlog
    assert backlog is not None
    assert backlog.edge == "M0 100H1V0H2M3 75H4"
    assert backlog.labels == ("20", "10", "0")
    assert backlog.summary == "5 events waiting now, at most 20 in the last hour."
    assert charts.draw_recent_rate(buckets).backlog is None


def test_events_wait_that_were_queued_and_are_not_settled() -> None:
    counts = {
        b"report.received": 99,
        b"report.queued:crm": 9,
        b"report.delivered:crm": 4,
        b"reply.queued:crm": 3,
        b"report.dead:crm": 1,
        b"reply.dropped:ledger": 1,
        b"report.filtered:ledger": 50,
        b"reply.queued:ledger": 2,
        b"reply.forgotten:crm": 1,
    }
    assert events_waiting({name: str(number).encode() for name, number in counts.items()}) == 7


def test_an_hour_of_nothing_says_so() -> None:
    chart = charts.draw_recent_rate([Bucket(0, 0), Bucket(10, 0)])
    assert (chart.edge, chart.labels) == ("M0 100H2", ("1", "0.5", "0"))
    assert chart.summary == "No callback was accepted in the hour before 00:00:20 UTC."
