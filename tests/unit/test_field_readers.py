"""Values that are not written as documented: what is understood, and that an unreadable one costs itself alone."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import callback_events, events, field_readers, wire
from shared.errors import UnexpectedShape
from shared.events import ReplyEvent, ReportEvent
from shared.normalize import unix_ms
from shared.schema import Kind, Record

RECEIVED_AT = datetime(2015, 9, 25, 8, 0, tzinfo=UTC)
SECOND = "2015-09-25T07:12:54.000Z"
MILLISECOND = "2015-09-25T07:12:54.145Z"


def read_events(body: str, kind: Kind) -> tuple[list[events.Event], dict[str, int]]:
    """Return the events of a body, and its unreadable fields, after the web process has accepted all of it."""
    assert wire.check(body.encode(), kind).faults == ()
    callback = wire.read(body.encode(), kind)
    assert callback.faults == ()
    found = list(callback_events.from_callback(callback, source="main", received_at=RECEIVED_AT))
    return found, dict(callback.unreadable_fields)


def read_report(members: str) -> tuple[ReportEvent, dict[str, int]]:
    # Of a repeated key the last counts, so `members` may hold the two required ones.
    [event], unreadable = read_events(f'{{"data":[{{"message_id":"1","status":"DELIVRD",{members}}}]}}', "status")
    assert isinstance(event, ReportEvent)
    return event, unreadable


def read_reply(members: str) -> tuple[ReplyEvent, dict[str, int]]:
    [event], unreadable = read_events(f'{{"reply_message_id":"1",{members}}}', "reply")
    assert isinstance(event, ReplyEvent)
    return event, unreadable


@pytest.mark.parametrize(
    ("members", "occurred_at"),
    [
        ('"timestamp":1443165174.0', SECOND),
        ('"timestamp":1443165174.145', MILLISECOND),
        ('"timestamp":"1443165174.145"', MILLISECOND),
        ('"timestamp":" 1443165174 "', SECOND),
        ('"timestamp":"+1443165174"', SECOND),
        ('"timestamp":1.443165174e9', SECOND),
        ('"timestamp":1.443165174145E12', MILLISECOND),
        ('"timestamp":"1443165174145.9"', MILLISECOND),
        ('"micro_timestamp":1443165174145000.0', MILLISECOND),
        ('"timestamp":"2015-09-25T07:12:54Z"', SECOND),
        ('"timestamp":"2015-09-25t07:12:54.145z"', MILLISECOND),
        ('"timestamp":"2015-09-25 09:12:54.145678901+02:00"', MILLISECOND),
        ('"timestamp":"2015-09-25T07:12:54"', SECOND),
        ('"timestamp":"2015-09-25T02:42:54-0430"', SECOND),
        ('"timestamp":"2015-06-30T23:59:60Z"', "2015-06-30T23:59:59.000Z"),
        ('"timestamp":1443165174,"micro_timestamp":0', SECOND),
        ('"timestamp":1443165174,"micro_timestamp":0.0', SECOND),
        ('"timestamp":1443165174,"micro_timestamp":"0.000"', SECOND),
        ('"timestamp":"2015-09-25T07:12:54Z","micro_timestamp":"soon"', SECOND),
        ('"timestamp":[],"micro_timestamp":1443165174145', MILLISECOND),
    ],
)
def test_a_time_is_read_in_any_notation(members: str, occurred_at: str) -> None:
    event, _ = read_report(members)
    assert json.loads(event.to_json())["occurred_at"] == occurred_at


@pytest.mark.parametrize(
    "value",
    ["true", "[1443165174]", "{}", '"soon"', '"2015-02-30T07:12:54Z"', '"2015-09-25"', '"25.09.2015 07:12:54"', "1e400",
     "123456789012345678901234567890", '"123456789012345678"', "-1000000000000000000", '"1e999"', '"\\u0663"', '"NaN"'],
)  # fmt: skip
def test_a_time_that_means_nothing_is_no_time_and_stays_in_raw(value: str) -> None:
    event, unreadable = read_report(f'"timestamp":{value}')
    assert event.occurred_at is None
    assert unreadable == {"timestamp": 1}
    assert "timestamp" in event.raw


@pytest.mark.parametrize("value", ["0", '"0"', "0.0", '""', "null"])
def test_zero_is_no_time_and_not_unreadable(value: str) -> None:
    assert read_report(f'"timestamp":{value},"micro_timestamp":{value}')[0].occurred_at is None


@pytest.mark.parametrize(
    ("value", "code"),
    [("943.0", 943), ('" 943 "', 943), ('"+943"', 943), ('"943.00"', 943), ("9.43e2", 943), ("-1.0", -1)],
)
def test_a_code_is_read_in_any_notation(value: str, code: int) -> None:
    event, unreadable = read_report(f'"error_code":{value}')
    assert (event.error_code, unreadable) == (code, {})


@pytest.mark.parametrize("value", ['"21b"', "true", "[]", "{}", "0.5", '"0x1f"', "1e400", '" "'])
def test_a_code_that_is_no_whole_number_is_none_and_stays_in_raw(value: str) -> None:
    event, unreadable = read_report(f'"error_code":{value}')
    assert (event.error_code, unreadable) == (None, {"error_code": 1})
    assert "error_code" in event.raw


@pytest.mark.parametrize(
    ("value", "text"),
    [("8.6e+47", "8.6e+47"), ("12.5", "12.5"), ("35679000123.0", "35679000123"), ("3.5679000123e10", "35679000123"),
     ("1e400", "1e400"), ("7", "7"), ('""', None), ("null", None)],
)  # fmt: skip
@pytest.mark.parametrize(
    ("key", "attribute"), [("client_message_id", "client_message_id"), ("to", "recipient"), ("from", "sender")]
)
def test_a_number_where_a_text_belongs_is_its_digits(value: str, text: str | None, key: str, attribute: str) -> None:
    event, unreadable = read_report(f'"{key}":{value}')
    assert (getattr(event, attribute), unreadable) == (text, {})


@pytest.mark.parametrize("value", ["true", "[]", '["35679000123"]', "{}"])
def test_a_text_that_is_none_costs_itself_alone(value: str) -> None:
    event, unreadable = read_report(f'"to":{value},"from":"Fortytwo"')
    assert (event.recipient, event.sender, unreadable) == (None, "Fortytwo", {"to": 1})


@pytest.mark.parametrize(("value", "text"), [("12.5", "12.5"), ("8.6e+47", "8.6e+47"), ("7", "7")])
def test_a_job_may_have_a_number_for_its_id(value: str, text: str) -> None:
    [event], unreadable = read_events(
        f'{{"client_job_id":{value},"data":[{{"message_id":"1","status":"SEEN"}}]}}', "status"
    )
    assert (event.client_job_id, unreadable) == (text, {})


@pytest.mark.parametrize("value", ["true", "[7]", '{"id":7}', f'"{"x" * 1025}"'])
def test_an_unreadable_id_of_the_job_costs_no_record_and_stays_in_raw(value: str) -> None:
    found, unreadable = read_events(
        f'{{"client_job_id":{value},"data":[{{"message_id":"1","status":"SEEN"}},{{"message_id":"2","status":"SEEN"}}]}}',
        "status",
    )
    assert [event.client_job_id for event in found] == [None, None]
    assert [event.raw["client_job_id"] for event in found] == [json.loads(value)] * 2
    assert unreadable == {"client_job_id": 1}


@pytest.mark.parametrize(
    ("status", "read", "is_final"),
    [('"delivrd"', "DELIVRD", True), ('" Undeliv\\n"', "UNDELIV", True), ('"acceptd"', "ACCEPTD", False),
     ('"Teleported"', "Teleported", False), ("5", "5", False)],
)  # fmt: skip
def test_a_status_is_known_whatever_its_case(status: str, read: str, is_final: bool) -> None:
    event, _ = read_report(f'"status":{status}')
    assert (event.status, event.is_final) == (read, is_final)


def test_a_report_is_the_same_event_in_any_notation() -> None:
    usual = read_report('"type":"SMS","timestamp":1443165174,"to":"35679000123","error_code":943')[0]
    odd = read_report(
        '"type":"sms","status":"delivrd ","timestamp":"2015-09-25T07:12:54Z","to":35679000123.0,"error_code":"943.0"'
    )[0]
    assert odd.id == usual.id


@pytest.mark.parametrize(
    ("message", "text", "unreadable"),
    [('{"text":1}', "1", {}), ('"yes"', "yes", {}), ("5", "5", {}), ("[]", None, {}), ('""', None, {}),
     ("{}", None, {}), ('{"text":12.5}', "12.5", {}), ('{"text":["a"]}', None, {"message": 1}),
     ('["a"]', None, {"message": 1}), ("true", None, {"message": 1})],
)  # fmt: skip
def test_a_reply_has_its_text_however_the_message_is_written(
    message: str, text: str | None, unreadable: dict[str, int]
) -> None:
    event, found = read_reply(f'"message":{message}')
    assert (event.text, found) == (text, unreadable)
    assert event.raw["message"] == json.loads(message)


def test_one_record_alone_is_read_without_its_list() -> None:
    [event], _ = read_events('{"api_job_id":"j","data":{"message_id":"1","status":"SEEN"}}', "status")
    assert isinstance(event, ReportEvent)
    assert (event.message_id, event.api_job_id) == ("1", "j")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
optional = st.sampled_from(["type", "timestamp", "micro_timestamp", "to", "from", "client_message_id", "error_code"])


@given(st.dictionaries(optional, values))
def test_no_optional_value_costs_the_record(members: dict[str, Any]) -> None:
    body = json.dumps({"data": [{**members, "message_id": "1", "status": "SEEN"}]}).encode("utf-8", "surrogatepass")
    assert wire.check(body, "status") == wire.Shape("status", 1)
    [(record, _)] = wire.read(body, "status").records
    assert isinstance(record, Record)
    unix_ms(record)


@pytest.mark.parametrize(("value", "kind"), [(b"[[],[]]", "array"), (b'{"a":[]}', "object")])
def test_a_wrong_value_of_a_required_field_is_named_and_not_decoded(
    value: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []

    def decode(part: msgspec.Raw) -> object:
        decoded.append(bytes(part))
        return msgspec.json.decode(part)

    monkeypatch.setattr(field_readers, "_decode", decode)
    part = msgspec.Raw(b'{"message_id":"1","status":' + value + b"}")
    with pytest.raises(UnexpectedShape, match=rf"Expected str, got {kind}: \$\.status"):
        field_readers.read(Record, part, "$")
    assert decoded == [b'"1"'], "an array may have millions of elements"
