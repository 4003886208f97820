"""An event is stored without the fields that its record repeats; if any of them was read otherwise, whole."""

from typing import Any, Final

import msgspec
import pytest

from shared import callback_events, events, wire
from shared.events import Event

RECEIVED_MS: Final = 1_767_225_600_123
REPORT: Final = {
    "type": "VIBER",
    "message_id": "14466445287300014003",
    "status": "DELIVRD",
    "timestamp": 1443165174,
    "micro_timestamp": 1443165174145,
    "to": "35679000123",
    "from": "Fortytwo",
    "error_code": 0,
}
REPLY: Final = {
    "api_job_id": "47efb16b-b9a0-4dea-8ae1-d3cd9e4f5a4c",
    "client_job_id": "autumn",
    "reply_message_id": "7",
    "orig_message_id": "6",
    "req_uuid": "u",
    "channel": "SMS",
    "timestamp": 1443165174,
    "from": "35679000123",
    "to": "Fortytwo",
    "message": {"text": "Grüße 👋🏽"},
}
# What a member of the record is replaced by; it is added if the record does not have it.
COMPACT_REPORTS: Final[dict[str, dict[str, Any]]] = {
    "documented": {},
    "unknown status": {"status": "PARKED"},
    "unknown channel": {"type": "RCS"},
    "empty texts": {"type": "", "to": "", "from": "", "client_message_id": ""},
    "null": {"type": None, "to": None, "from": None, "client_message_id": None, "error_code": None},
    "a reference": {"client_message_id": "order 7"},
    "unknown key": {"price": {"eur": 1.5}},
    "times as text": {"timestamp": "1443165174", "micro_timestamp": ""},
}
WHOLE_REPORTS: Final[dict[str, dict[str, Any]]] = {
    "number as an id": {"message_id": 7},
    "lower case": {"status": "delivrd"},
    "channel in lower case": {"type": "viber"},
    "recipient as a number": {"to": 35679000123},
    "sender under another key": {"from": "", "sms_from": "Fortytwo"},
    "code as text": {"error_code": "0"},
    "empty code": {"error_code": ""},
    "code as a fraction": {"error_code": 1.0},
    "code as a truth value": {"error_code": True},
    "reference as a number": {"client_message_id": 7},
    "unreadable recipient": {"to": ["35679000123"]},
}
COMPACT_REPLIES: Final[dict[str, dict[str, Any]]] = {
    "documented": {},
    "sticker": {"message": {}},
    "no message": {"message": None},
    "empty text": {"message": {"text": ""}},
    "only its request": {"reply_message_id": ""},
}
WHOLE_REPLIES: Final[dict[str, dict[str, Any]]] = {
    "number as an id": {"reply_message_id": 7},
    "channel in lower case": {"channel": "sms"},
    "text without its object": {"message": "Hi"},
    "sender under another key": {"from": None, "viber_from": "35679000123"},
}


def made_and_stored(body: dict[str, Any]) -> tuple[Event, bytes]:
    """Return the event of a callback, and what an expand worker stores of it."""
    callback = wire.read(msgspec.json.encode(body), None)
    (event,) = callback_events.from_callback(callback, source="gw", received_at=events.utc_time(RECEIVED_MS))
    ((_, _, [encoded]),) = callback_events.encoded_from_callback(callback, source="gw", received_ms=RECEIVED_MS)
    return event, encoded


def report(**members: Any) -> dict[str, Any]:
    return {"api_job_id": "j", "client_job_id": "", "data": [REPORT | members]}


@pytest.mark.parametrize(
    "body", [report(**one) for one in COMPACT_REPORTS.values()] + [REPLY | one for one in COMPACT_REPLIES.values()]
)
def test_fields_that_the_record_repeats_are_not_stored_again(body: dict[str, Any]) -> None:
    event, encoded = made_and_stored(body)

    stored = msgspec.json.decode(encoded)
    assert len(stored) == (8 if event.kind == "report" else 6)
    assert (stored[1], stored[2], stored[-1]) == (event.id, "gw", event.raw)
    assert events.kind_of(stored) == event.kind
    assert len(encoded) < len(events.encode(event)) * 0.85


@pytest.mark.parametrize(
    "body", [report(**one) for one in WHOLE_REPORTS.values()] + [REPLY | one for one in WHOLE_REPLIES.values()]
)
def test_an_event_of_which_a_field_was_read_otherwise_is_stored_whole(body: dict[str, Any]) -> None:
    event, encoded = made_and_stored(body)
    assert msgspec.json.decode(encoded) == msgspec.json.decode(events.encode(event))


@pytest.mark.parametrize(
    ("time_ms", "stored"),
    [
        (1443165174145, "1443165174.145"),
        (1443165174000, "1443165174.0"),
        (10**11, "100000000.0"),
        (4 * 10**12 - 1, "3999999999.999"),
        (4 * 10**12, '"2096-10-02T07:06:40Z"'),  # where a double is not exact, or soon will not be
        (1443165174, '"2015-09-25T07:12:54Z"'),  # seconds
        (0, '"2015-09-25T07:12:54Z"'),  # no time: the other one counts
    ],
)
def test_a_usual_time_is_stored_as_a_number(time_ms: int, stored: str) -> None:
    event, encoded = made_and_stored(report(micro_timestamp=time_ms))
    assert f",{stored},{RECEIVED_MS},".encode() in encoded
    (read,) = events.decode(b"[%b]" % encoded)
    assert (read, str(read)) == (event, str(event))


def test_each_millisecond_of_a_usual_time_is_read_as_it_was() -> None:
    times = [*range(1443165174000, 1443165175000), *range(4 * 10**12 - 1000, 4 * 10**12), *range(10**11, 10**11 + 1000)]
    callback = wire.read(msgspec.json.encode({"data": [REPORT | {"micro_timestamp": one} for one in times]}), "status")
    made = list(callback_events.from_callback(callback, source="gw", received_at=events.utc_time(RECEIVED_MS)))
    stored = callback_events.encoded_from_callback(callback, source="gw", received_ms=RECEIVED_MS)
    assert events.decode_each(one for _, _, encoded in stored for one in encoded) == made
    assert [event.occurred_at for event in made] == [events.utc_time(one) for one in times]


def test_a_key_around_the_records_does_not_become_a_field() -> None:
    """Unknown keys next to `data` are in `raw`, where a key of the record has precedence."""
    without_recipient = {key: value for key, value in REPORT.items() if key != "to"}
    body = {"to": "35679000999", "data": [without_recipient]}
    event, encoded = made_and_stored(body)
    assert event.raw["to"] == "35679000999"
    (read,) = events.decode(b"[%b]" % encoded)
    assert (read.recipient, event.recipient) == (None, None)


@pytest.mark.parametrize(
    "body",
    [report(**one) for one in (*COMPACT_REPORTS.values(), *WHOLE_REPORTS.values())]
    + [REPLY | one for one in (*COMPACT_REPLIES.values(), *WHOLE_REPLIES.values())],
)
def test_either_form_is_read_as_the_same_event(body: dict[str, Any]) -> None:
    event, encoded = made_and_stored(body)
    for (read,) in (
        events.decode(b"[%b]" % encoded),
        events.decode_each([encoded]),
        events.decode_each([events.with_trace(encoded, "00-1-2-01")]),
        events.from_arrays([msgspec.json.decode(encoded)]),
    ):
        assert (read, str(read), read.to_json()) == (event, str(event), event.to_json())
    assert events.read_trace(encoded) == ""
    assert events.read_trace(events.with_trace(encoded, "00-1-2-01")) == "00-1-2-01"


@pytest.mark.parametrize("array", [["news", "id"], [7], [None]])
def test_an_array_of_an_unknown_kind_has_none(array: list[Any]) -> None:
    with pytest.raises(ValueError, match="not the array of an event"):
        events.kind_of(array)
