"""How an event stands on a line for people."""

import pytest
from click import unstyle

from callbacks.cli.event_line import format_event
from shared.events import known_status


def words(**fields: object) -> dict[str, object]:
    report = {"kind": "report", "received_at": "2015-09-25T07:12:54.145Z", "status": "DELIVRD", "channel": "SMS"}
    return {**report, "sender": "Fortytwo", "recipient": "35679*****123", "message_id": "m", "error_code": 0, **fields}


def test_a_line_says_when_what_from_whom_to_whom() -> None:
    assert unstyle(format_event(words())) == "07:12:54Z  DELIVRD   SMS       Fortytwo → 35679*****123  message m"
    assert unstyle(format_event(words(status="EXPIRED", error_code=7))).endswith("message m  error 7")
    assert unstyle(format_event(words(kind="reply", text="yes"))).endswith(
        "reply     SMS       Fortytwo → 35679*****123  yes"
    )
    assert "?" in format_event(words(sender=None))


def test_a_long_reply_is_cut() -> None:
    line = unstyle(format_event(words(kind="reply", text="long\n" * 1000)))

    assert "long" in line
    assert line.endswith("…")
    assert len(line) < 200


@pytest.mark.parametrize("field", ["status", "channel", "sender", "recipient", "message_id"])
def test_nothing_in_a_line_steers_the_terminal(field: str) -> None:
    line = unstyle(format_event(words(**{field: "a\x1b]0;x\x07\x9b2J\u202e\r\nb"})))

    assert line.isprintable()
    assert "\x1b[" in format_event(words())  # the colour is ours


def test_statuses_are_found_however_people_write_them() -> None:
    assert (known_status("delivrd"), known_status("sms_sent")) == ("DELIVRD", "sms_sent")
