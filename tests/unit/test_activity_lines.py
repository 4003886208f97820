"""The lines of `callbacks dev`: for each event what became of it at each handler, and no flood under a campaign."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from click import unstyle

from callbacks.cli import activity_text
from callbacks.cli.activity_lines import MAX_LINES, STEADY_LINES, WAIT_SECONDS, ActivityLines
from workers.activity import (
    Activity,
    CallResult,
    EventLabel,
    NewEvent,
    PauseChanged,
    RepeatedEvent,
    UnreadableRecords,
)

NOW = datetime(2026, 11, 29, 13, 57, 12, tzinfo=UTC)
REPORT = EventLabel("e1", "report", "2333", "UNDELIV", "VIBER", "35679000123", "", None, NOW)
REPLY = EventLabel("e2", "reply", "88", "", "VIBER", "35679000123", "Thank you", None, NOW)


def call(handler: str = "refund", **fields: Any) -> CallResult:
    return CallResult(handler, **{"event": REPORT, "outcome": "delivered", "attempt": 1, "call_ms": 3.2, **fields})


def failed(**fields: Any) -> CallResult:
    return call(**{"outcome": "retried", "error": "ValueError: no such order", "after_seconds": 4.02, **fields})


class Screen:
    """Lines as they are printed, at a time that the test sets."""

    def __init__(self, *, hidden: Sequence[str] = (), masked: bool = True, paused: Sequence[str] = ()) -> None:
        self.now = NOW
        self.lines = ActivityLines(hidden=hidden, masked=masked, is_paused=lambda name: name in paused)

    def after(self, *items: Activity, seconds: float = 0.0) -> list[str]:
        """Return the lines that appear when these have happened, and then so much time has passed."""
        for item in items:
            self.lines.add(item, self.now)
        lines = self.lines.pop(self.now)
        if seconds:
            self.now += timedelta(seconds=seconds)
            lines += self.lines.pop(self.now)
        return [unstyle(line) for line in lines]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (call(), "refund ✓ 3 ms"),
        (call(call_ms=None), "refund ✓"),
        (call(call_ms=0.2), "refund ✓ 1 ms"),
        (call(call_ms=3210.0, attempt=3), "refund ✓ 3.2 s, attempt 3"),
        (failed(), "refund ✗ ValueError: no such order, again in 4 s"),
        (failed(after_seconds=3600.0), "refund ✗ ValueError: no such order, again in 60 min"),
        (failed(after_seconds=86400.0), "refund ✗ ValueError: no such order, again in 24 h"),
        (failed(error=""), "refund ✗ Retry, again in 4 s"),
        (failed(error="a\x1b[2Jb"), "refund ✗ a [2Jb, again in 4 s"),
        (call(outcome="dead", attempt=8, error="ValueError: x"), "refund dead after 8 attempts: ValueError: x"),
        (call(outcome="dead", error="ValueError: x"), "refund dead after 1 attempt: ValueError: x"),
        (call(outcome="dead", error="no such order", is_rejected=True), "refund dead, rejected: no such order"),
    ],
)
def test_what_became_of_an_event_at_a_handler(result: CallResult, words: str) -> None:
    assert unstyle(activity_text.describe_result(result)) == words


def test_an_event_is_one_line_with_the_outcome_at_each_handler() -> None:
    screen = Screen()

    assert screen.after(NewEvent(REPORT, ("refund", "audit"))) == []
    assert screen.after(call("audit")) == []
    assert screen.after(failed()) == [
        "13:57:12Z report 2333 UNDELIV VIBER → refund ✗ ValueError: no such order, again in 4 s, audit ✓ 3 ms"
    ]
    assert screen.after(seconds=60) == []


def test_the_outcome_may_be_published_before_its_event() -> None:
    screen = Screen()

    assert screen.after(call()) == []
    assert screen.after(NewEvent(REPORT, ("refund",))) == ["13:57:12Z report 2333 UNDELIV VIBER → refund ✓ 3 ms"]


def test_what_comes_later_has_a_line_of_its_own() -> None:
    screen = Screen(paused=["chat"])
    assert screen.after(NewEvent(REPORT, ("refund", "chat")), seconds=WAIT_SECONDS) == [
        "13:57:12Z report 2333 UNDELIV VIBER → refund …, chat paused"
    ]

    screen.now += timedelta(seconds=4)
    assert screen.after(failed()) == [
        "13:57:17Z report 2333 UNDELIV VIBER → refund ✗ ValueError: no such order, again in 4 s"
    ]
    assert screen.after(call(attempt=2)) == ["13:57:17Z report 2333 UNDELIV VIBER → refund ✓ 3 ms, attempt 2"]
    assert screen.after(call("chat")) == ["13:57:17Z report 2333 UNDELIV VIBER → chat ✓ 3 ms"]


def test_a_retry_that_is_due_at_once_comes_after_the_line_of_its_event() -> None:
    screen = Screen()

    assert screen.after(NewEvent(REPORT, ("refund", "slow")), failed(after_seconds=0), call(attempt=2)) == [
        "13:57:12Z report 2333 UNDELIV VIBER → refund ✗ ValueError: no such order, again in 0 s, slow …",
        "13:57:12Z report 2333 UNDELIV VIBER → refund ✓ 3 ms, attempt 2",
    ]


def test_an_event_of_an_earlier_start_or_a_replayed_one_is_shown_with_its_outcome() -> None:
    assert Screen().after(call(), seconds=WAIT_SECONDS) == ["13:57:13Z report 2333 UNDELIV VIBER → refund ✓ 3 ms"]


def test_a_hidden_handler_is_shown_only_when_it_fails() -> None:
    screen = Screen(hidden=["log"])

    assert screen.after(NewEvent(REPORT, ("log",)), call("log")) == [
        "13:57:12Z report 2333 UNDELIV VIBER → no handler wants it"
    ]
    disk_full = failed(handler="log", error="OSError: disk full")
    assert Screen(hidden=["log"]).after(NewEvent(REPORT, ("log", "refund")), disk_full, call()) == [
        "13:57:12Z report 2333 UNDELIV VIBER → refund ✓ 3 ms, log ✗ OSError: disk full, again in 4 s"
    ]
    assert screen.after(call("log", outcome="dead", attempt=2, error="OSError: disk full")) == [
        "13:57:12Z report 2333 UNDELIV VIBER → log dead after 2 attempts: OSError: disk full"
    ]


def test_a_reply_has_its_number_and_text_and_a_report_its_error_code() -> None:
    long = msgspec.structs.replace(REPLY, text="long\n" * 1000)
    report = msgspec.structs.replace(REPORT, error_code=69)

    assert Screen().after(NewEvent(REPLY, ())) == ["13:57:12Z reply 88 VIBER 356*****123: *** → no handler wants it"]
    (full,) = Screen(masked=False).after(NewEvent(long, ()))
    assert "35679000123: long long" in full
    assert len(full) < 200
    assert Screen().after(NewEvent(report, ())) == [
        "13:57:12Z report 2333 UNDELIV VIBER error 69 → no handler wants it"
    ]


def test_nothing_of_an_event_steers_the_terminal() -> None:
    bad = "a\x1b]0;x\x07\x9b2J\u202e\r\nb"
    for event in (
        msgspec.structs.replace(REPORT, message_id=bad, status=bad, channel=bad),
        msgspec.structs.replace(REPLY, message_id=bad, number=bad, text=bad),
    ):
        (line,) = Screen(masked=False).after(NewEvent(event, ()))
        assert line.isprintable()


def repeat(*, after: timedelta = timedelta()) -> RepeatedEvent:
    return RepeatedEvent(msgspec.structs.replace(REPORT, received_at=NOW + after))


def test_a_repeat_is_said_as_a_repeat() -> None:
    line = "13:57:12Z report 2333 UNDELIV VIBER, repeat of an earlier report: not delivered again"
    assert Screen().after(repeat()) == [line]


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (timedelta(minutes=1), "13:58:12Z report 2333 UNDELIV VIBER, repeat of the report at 13:57:12Z"),
        (timedelta(days=1), "2026-11-30 13:57:12Z report 2333 UNDELIV VIBER, repeat of the report at 13:57:12Z"),
    ],
)
def test_the_time_of_the_first_one_is_the_one_that_was_shown(after: timedelta, words: str) -> None:
    screen = Screen()
    screen.after(NewEvent(REPORT, ("refund",)), call())

    assert screen.after(repeat(after=after)) == [f"{words}: not delivered again"]


def test_pauses_and_what_cannot_be_read_have_lines() -> None:
    assert Screen().after(
        PauseChanged("chat", is_paused=True, seconds=30, reason="answered 503"),
        PauseChanged("chat", is_paused=True, seconds=30, reason=""),
        PauseChanged("chat", is_paused=False, seconds=31.4, reason=""),
        UnreadableRecords("report", 1, "missing message_id"),
        UnreadableRecords("unknown", 1, "no data"),
        UnreadableRecords("reply", 3, "no id"),
    ) == [
        "13:57:12Z chat paused for 30 s: answered 503",
        "13:57:12Z chat paused for 30 s",
        "13:57:12Z chat resumed after 31 s",
        "13:57:12Z report cannot be read: missing message_id; see `callbacks quarantine list`",
        "13:57:12Z callback cannot be read: no data; see `callbacks quarantine list`",
        "13:57:12Z 3 reply records cannot be read: no id; see `callbacks quarantine list`",
    ]


def campaign(number: int) -> list[Activity]:
    """Return that many reports, of which the last one fails."""
    labels = [msgspec.structs.replace(REPORT, id=f"e{index}") for index in range(number)]
    return [
        *(NewEvent(label, ("refund",)) for label in labels),
        *(call(event=label) for label in labels[1:]),
        failed(event=labels[0]),
    ]


def test_a_campaign_is_summed_up_each_second() -> None:
    screen = Screen()
    screen.after()
    lines = screen.after(*campaign(5000), repeat(), seconds=1)

    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == "13:57:13Z … 4,800 reports, 1 repeat → refund ✓ 4,799 ✗ 1 (ValueError: no such order)"

    assert screen.after(*campaign(100), seconds=1) == [
        "13:57:14Z … 100 reports → refund ✓ 99 ✗ 1 (ValueError: no such order)"
    ]
    # And when fewer come, each has its line again.
    assert screen.after(seconds=1) == []
    assert screen.after(NewEvent(REPORT, ("refund",)), call()) == [
        "13:57:12Z report 2333 UNDELIV VIBER → refund ✓ 3 ms"
    ]


def test_a_steady_stream_of_failures_is_summed_up_too() -> None:
    screen = Screen()
    lines = []
    for second in range(20):
        labels = [msgspec.structs.replace(REPORT, id=f"e{second}-{index}") for index in range(50)]
        lines += screen.after(*(failed(event=label, attempt=2) for label in labels), seconds=1)

    assert len(lines) < MAX_LINES + 200
    assert "refund ✗ 50 (ValueError: no such order)" in lines[-1]


def test_a_few_events_a_second_have_a_line_each_for_as_long_as_they_come() -> None:
    screen = Screen()
    for second in range(100):
        labels = [msgspec.structs.replace(REPORT, id=f"e{second}-{index}") for index in range(STEADY_LINES)]
        assert len(screen.after(*(failed(event=label, attempt=2) for label in labels), seconds=1)) == STEADY_LINES


def test_retries_of_a_campaign_are_summed_up_too() -> None:
    screen = Screen()
    screen.after()
    labels = [msgspec.structs.replace(REPORT, id=f"e{index}") for index in range(300)]
    lines = screen.after(*(failed(event=label, attempt=2) for label in labels), seconds=1)

    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == "13:57:13Z … refund ✗ 100 (ValueError: no such order)"


def test_what_it_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callbacks.cli.activity_lines._MAX_REMEMBERED", 10)
    screen = Screen()
    for item in campaign(50)[:50]:
        screen.after(item, seconds=2)

    assert len(screen.lines._late) == 10
    assert len(screen.lines._received_at) == 10
    assert not screen.lines._open
