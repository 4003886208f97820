"""When a notice is due: a condition that lasts, one that is over, one that comes and goes; the clock is given."""

import pytest
from msgspec.structs import replace

from callbacks.ops.notices.condition_state import QUIET_SECONDS, ConditionState, advance, select_notified
from callbacks.ops.notices.notice import Notice
from callbacks.ops.status.alerts import Alert

AFTER = 30.0
START = 1_700_000_000.0
PAUSED = Alert("warn", "handler_paused", "The handler crm paused itself.", subject="crm")


def run(*readings: tuple[float, list[Alert] | None], states: dict[str, ConditionState] | None = None) -> list[Notice]:
    """Return the notices of readings at these seconds; None is a reading that knows nothing, as without Redis."""
    states, notices = dict(states or {}), []
    for at_seconds, alerts in readings:
        states, due = advance(
            states,
            select_notified(alerts or []),
            now_seconds=START + at_seconds,
            after_seconds=AFTER,
            is_complete=alerts is not None,
        )
        notices += due
    return notices


def lasting(*spans: tuple[int, int], until: int, step: int = 10) -> list[tuple[float, list[Alert] | None]]:
    """Return a reading each ten seconds, in which the handler is paused from and to these seconds."""
    return [
        (at, [PAUSED] if any(start <= at < end for start, end in spans) else []) for at in range(0, until + 1, step)
    ]


def said(notices: list[Notice]) -> list[tuple[str, float]]:
    return [(notice.state, notice.at_seconds - START) for notice in notices]


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 20)], []),
        ([(0, 2000)], [("started", 30)]),
        ([(0, 300)], [("started", 30), ("resolved", 360)]),
        # An absence that is shorter than a minute is none.
        ([(0, 300), (350, 2000)], [("started", 30)]),
        # What is too short, each time, is nothing.
        ([(0, 20), (100, 120), (200, 220)], []),
        # It returns within the quiet time: counted, and summed up when that is over.
        ([(0, 100), (200, 300)], [("started", 30), ("resolved", 160), ("flapping", 930)]),
        ([(0, 100), (200, 2000)], [("started", 30), ("resolved", 160), ("started", 930)]),
        ([(0, 100), (200, 300), (400, 2000)], [("started", 30), ("resolved", 160), ("flapping", 930)]),
        # After the quiet time it is new.
        ([(0, 100), (1000, 1100)], [("started", 30), ("resolved", 160), ("started", 1030), ("resolved", 1160)]),
    ],
)
def test_one_notice_says_that_it_began_and_one_that_it_is_over(
    spans: list[tuple[int, int]], expected: list[tuple[str, float]]
) -> None:
    assert said(run(*lasting(*spans, until=1400))) == expected


def test_what_comes_and_goes_all_day_is_at_most_two_notices_in_a_quarter_of_an_hour() -> None:
    spans = [(start, start + 60) for start in range(0, 86_400, 180)]

    notices = run(*lasting(*spans, until=86_400))

    assert len(notices) <= 2 * (86_400 / QUIET_SECONDS + 1)
    assert {notice.state for notice in notices[2:]} <= {"flapping", "resolved"}
    assert "It returned 5 times in the last 15 min; now it" in notices[2].text


def test_a_restart_neither_repeats_nor_forgets() -> None:
    states, _ = advance({}, select_notified([PAUSED]), now_seconds=START, after_seconds=AFTER)
    states, (first,) = advance(states, select_notified([PAUSED]), now_seconds=START + 30, after_seconds=AFTER)
    assert first.state == "started"

    assert run((1000, [PAUSED]), (2000, [PAUSED]), states=states) == []
    assert said(run((1000, []), (1060, []), states=states)) == [("resolved", 1060)]


def test_while_nothing_can_be_read_nothing_begins_and_nothing_is_over() -> None:
    assert said(run((0, [PAUSED]), (30, [PAUSED]), (60, None), (600, None), (610, [PAUSED]))) == [("started", 30)]
    assert run((0, [PAUSED]), (10, None), (600, None), (610, [])) == []


def test_a_clock_that_was_set_back_starts_the_time_anew() -> None:
    assert said(run((0, [PAUSED]), (-5000, [PAUSED]), (-4980, [PAUSED]), (-4970, [PAUSED]))) == [("started", -4970)]


def test_each_handler_has_notices_of_its_own_and_alerts_of_one_condition_are_one() -> None:
    other = Alert("bad", "handler_paused", "The handler mail paused itself.", subject="mail")
    refused = [Alert("bad", "callbacks_refused", text) for text in ("3 with 403.", "4 with 413.")]

    notices = run((0, [PAUSED, other, *refused]), (30, [PAUSED, other, *refused]))

    assert [(notice.condition, notice.subject) for notice in notices] == [
        ("handler_paused", "crm"),
        ("handler_paused", "mail"),
        ("callbacks_refused", ""),
    ]
    assert notices[2].text == "3 with 403.\n4 with 413."


@pytest.mark.parametrize(
    ("alert", "is_notified"),
    [
        (Alert("bad", "senders_unknown", "…"), True),
        (Alert("warn", "senders_unknown", "…"), False),
        (Alert("warn", "handler_retrying", "…"), False),
        (Alert("warn", "backlog_age", "…"), False),
        (Alert("warn", "spool_filling", "…"), True),
        (Alert("warn", "callbacks_refused", "…"), True),
        (Alert("warn", "dead_letters", "…"), True),
        (Alert("warn", "callbacks_quarantined", "…"), True),
        (Alert("warn", "nothing_received", "…"), True),
        (Alert("bad", "redis_memory", "…"), True),
    ],
)
def test_a_problem_is_worth_a_notice_and_a_warning_if_its_condition_says_so(alert: Alert, is_notified: bool) -> None:
    assert bool(select_notified([alert])) == is_notified


def test_a_notice_says_what_since_when_and_where_the_runbook_is() -> None:
    started, over = run((0, [PAUSED]), (30, [PAUSED]), (300, []), (360, []))

    assert started.title == "Handler paused: crm"
    assert started.to_text() == (
        "The handler crm paused itself.\nSince 2023-11-14 22:13:20 UTC.\n"
        "What to do: docs/operations.md#callbackshandlerretrying"
    )
    assert over.title == "Resolved: Handler paused: crm"
    assert over.to_text() == (
        "Resolved. It was: The handler crm paused itself.\n"
        "From 2023-11-14 22:13:20 UTC to 2023-11-14 22:18:20 UTC (5 min)."
    )
    assert over.to_json_object() == {
        "type": "handler_paused",
        "state": "resolved",
        "subject": "crm",
        "started_at": "2023-11-14T22:13:20.000Z",
        "ended_at": "2023-11-14T22:18:20.000Z",
        "title": "Resolved: Handler paused: crm",
        "text": "Resolved. It was: The handler crm paused itself.",
        "runbook": "docs/operations.md#callbackshandlerretrying",
    }
    elsewhere = replace(started, runbook_url="https://wiki.example/runbook")
    assert elsewhere.to_text().endswith("What to do: https://wiki.example/runbook#callbackshandlerretrying")
    assert started.id != over.id


def test_a_notice_of_a_long_text_is_cut() -> None:
    (notice,) = run(*((at, [Alert("bad", "callbacks_refused", "x" * 5000)]) for at in (0.0, 30.0)))

    assert len(notice.text) == 1000
