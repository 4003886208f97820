"""Events: which of the gateway's values they have, and that a queue changes none of them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events
from shared.events import Event, ReplyEvent, ReportEvent
from tests.unit.example_events import RECEIVED, REPLY, REPORT, STATUS, read, reply, report


def test_a_report_has_the_gateways_values() -> None:
    event = report()
    assert event == ReportEvent(
        id=event.id,
        source="main",
        api_job_id="8de46f30-6b0f",
        client_job_id="autumn",
        message_id="14466445287300014003",
        client_message_id="c-1",
        channel="SMS",
        status="DELIVRD",
        is_final=True,
        occurred_at=datetime(2015, 9, 25, 7, 12, 54, 145000, tzinfo=UTC),
        sender="Fortytwo",
        recipient="35679000123",
        error_code=943,
        received_at=RECEIVED,
        raw=REPORT,
    )


def test_a_reply_has_the_gateways_values() -> None:
    event = reply()
    assert event == ReplyEvent(
        id=event.id,
        source="main",
        api_job_id="8de46f30-6b0f",
        client_job_id=None,
        reply_message_id="14466445287300014999",
        orig_message_id="14466445287300014003",
        req_uuid="0b8ae9b2-2f0f",
        channel="VIBER",
        occurred_at=datetime(2015, 9, 25, 7, 12, 54, 145000, tzinfo=UTC),
        sender="35679000123",
        recipient="Fortytwo",
        text="Grüße 👋🏽",
        received_at=RECEIVED,
        raw=REPLY,
    )


@pytest.mark.parametrize("message", [{}, None, {"text": None}, {"text": ""}])
def test_a_reply_without_text_has_none(message: dict[str, Any] | None) -> None:
    assert reply(message=message).text is None


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        report().status = "SEEN"  # type: ignore[misc] # what a handler may try


@pytest.mark.parametrize(
    ("status", "is_final"),
    [
        ("ACCEPTD", False),
        ("UNKNOWN", False),
        ("DELIVRD", True),
        ("SEEN", True),
        ("EXPIRED", True),
        ("DELETED", True),
        ("UNDELIV", True),
        ("REJECTD", True),
        ("READ", False),
    ],
)
def test_a_status_is_final_as_the_specification_says_and_an_unknown_one_is_not(status: str, is_final: bool) -> None:
    assert (report(status=status).status, report(status=status).is_final) == (status, is_final)


@pytest.mark.parametrize("absent", [None, ""])
@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("type", "channel"),
        ("to", "recipient"),
        ("from", "sender"),
        ("client_message_id", "client_message_id"),
        ("error_code", "error_code"),
    ],
)
def test_absent_null_and_empty_are_none(key: str, field: str, absent: str | None) -> None:
    assert getattr(report(**{key: absent}), field) is None


def test_unknown_keys_next_to_data_are_in_raw_and_the_records_own_keys_win() -> None:
    (event,) = read({**STATUS, "account": 7, "type": "outer"})
    assert event.raw == {"account": 7, **REPORT}


def test_a_bad_record_leaves_its_siblings() -> None:
    first, second = read({"data": [{**REPORT, "message_id": "1"}, {"status": "SEEN"}, {**REPORT, "message_id": "3"}]})
    assert isinstance(first, ReportEvent)
    assert isinstance(second, ReportEvent)
    assert (first.message_id, second.message_id) == ("1", "3")


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**64), 10**40])
def test_integers_beyond_64_bits_survive_in_raw(number: int) -> None:
    event = report(cost=number)
    (decoded,) = events.decode(b"[" + events.encode(event) + b"]")
    assert decoded == event
    assert decoded.raw["cost"] == number
    assert json.loads(event.to_json())["raw"]["cost"] == number


# --- on their way through the queue


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


unknown_keys = st.text(st.characters(exclude_categories=["Cs"])).map("x-".__add__)


@given(st.dictionaries(unknown_keys, numbers))
def test_an_event_is_decoded_as_it_was_encoded(extra: dict[str, Any]) -> None:
    original: list[Event] = [report(**extra), reply(**extra)]
    encoded = b"[" + b",".join(events.encode(event) for event in original) + b"]"
    assert events.decode(encoded) == original
    assert events.decode(encoded.decode()) == original
    assert events.decode_each(map(events.encode, original)) == original
    assert events.from_arrays(msgspec.json.decode(encoded)) == original


PAYLOADS = Path(__file__).parent.parent / "payloads"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            "status_two_factor",
            [("SMS", "DELIVRD", True, "Fortytwo", 943, datetime(2015, 9, 25, 7, 12, 54, 145000, tzinfo=UTC))],
        ),
        (
            "status_sms_gateway",
            [
                ("SMS", "ACCEPTD", False, "Fortytwo", 0, datetime(2015, 9, 25, 7, 12, 50, 20000, tzinfo=UTC)),
                ("SMS", "UNDELIV", True, "35679000042", 27, datetime(2015, 9, 25, 7, 12, 54, tzinfo=UTC)),
            ],
        ),
    ],
)
def test_callbacks_of_the_sibling_gateways_become_the_same_events(
    payload: str, expected: list[tuple[object, ...]]
) -> None:
    found = read((PAYLOADS / f"{payload}.json").read_bytes())
    assert all(isinstance(event, ReportEvent) for event in found)
    lines = [
        (e.channel, e.status, e.is_final, e.sender, e.error_code, e.occurred_at)
        for e in found
        if isinstance(e, ReportEvent)
    ]
    assert lines == expected
