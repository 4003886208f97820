"""The gateway's two bodies: what is read, what is a fault of one record, what is not the documented shape, not JSON."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import values, wire
from shared.errors import NotDocumented, NotJson
from shared.wire import Kind, Record, ReplyCallback

STATUS = b"""{
  "api_job_id": "8de46f30-6b0f-4a5f-9b3a-6c7f0e9fbd6a",
  "client_job_id": "autumn",
  "data": [
    {"type": "SMS", "message_id": "14466445287300014003", "status": "DELIVRD", "timestamp": 1443165174,
     "micro_timestamp": 1443165174145, "to": "35679000123", "from": "Fortytwo", "client_message_id": "c-1",
     "error_code": 0}
  ]
}"""
REPLY = """{
  "api_job_id": "8de46f30-6b0f-4a5f-9b3a-6c7f0e9fbd6a",
  "reply_message_id": "14466445287300014999", "orig_message_id": "14466445287300014003",
  "req_uuid": "0b8ae9b2-2f0f-4f5e-8f4e-0b2f4c3c8a11", "channel": "VIBER", "timestamp": 1443165174,
  "micro_timestamp": 1443165174145, "from": "35679000123", "to": "Fortytwo", "message": {"text": "Grüße 👋🏽 שלום"}
}""".encode()


def record(**keys: Any) -> Record:
    """Read one report that has these keys beside the two that it must have."""
    return records({"message_id": "1", "status": "DELIVRD", **keys})[0]


def records(*reports: dict[str, Any]) -> list[Record]:
    callback = wire.read(json.dumps({"data": reports}).encode(), "status")
    return [read for read, _ in callback.records if isinstance(read, Record)]


def body_with(keys: bytes) -> bytes:
    """Give a status callback whose one record holds `keys` too, byte by byte."""
    return b'{"data":[{"message_id":"1","status":"DELIVRD",' + keys + b"}]}"


def check_error(body: bytes, kind: Kind | None = None) -> str:
    with pytest.raises(NotDocumented) as error:
        wire.check(body, kind)
    with pytest.raises(NotDocumented) as same:
        wire.read(body, kind)
    assert str(error.value) == str(same.value)
    return str(error.value)


@pytest.mark.parametrize("kind", ["status", None])
def test_a_status_callback_is_read_as_specified(kind: Kind | None) -> None:
    assert wire.check(STATUS, kind) == wire.Shape("status", 1)

    callback = wire.read(STATUS, kind)

    assert callback.envelope == wire.StatusEnvelope(
        api_job_id="8de46f30-6b0f-4a5f-9b3a-6c7f0e9fbd6a", client_job_id="autumn"
    )
    ((report, raw),) = callback.records
    assert isinstance(report, Record)
    assert (report.type, report.message_id, report.status) == ("SMS", "14466445287300014003", "DELIVRD")
    assert (report.to, values.sender(report), report.client_message_id) == ("35679000123", "Fortytwo", "c-1")
    assert raw == json.loads(STATUS)["data"][0]
    assert callback.faults == ()


@pytest.mark.parametrize("kind", ["reply", None])
def test_a_reply_is_read_as_specified(kind: Kind | None) -> None:
    assert wire.check(REPLY, kind) == wire.Shape("reply", 1)

    ((reply, raw),) = wire.read(REPLY, kind).records

    assert isinstance(reply, ReplyCallback)
    assert reply.reply_message_id == "14466445287300014999"
    assert reply.message == wire.ReplyMessage(text="Grüße 👋🏽 שלום")
    assert raw == json.loads(REPLY)


@pytest.mark.parametrize("message", [b'"message":{}', b'"message":null', b'"message":{"sticker":7}', b'"x":1'])
def test_a_reply_without_text_is_still_a_reply(message: bytes) -> None:
    assert wire.check(b'{"reply_message_id":"1",' + message + b"}", None) == wire.Shape("reply", 1)


# The times of the specification's example, in each unit that the gateway's pages use.
@pytest.mark.parametrize(
    ("keys", "unix_ms"),
    [
        ({"timestamp": 1443165174}, 1443165174000),
        ({"timestamp": 1443165174145}, 1443165174145),
        ({"timestamp": 1443165174, "micro_timestamp": 1443165174145}, 1443165174145),
        ({"timestamp": 1443165174145, "micro_timestamp": 1443165174145999}, 1443165174145),
        ({"timestamp": "1443165174", "micro_timestamp": "1443165174145"}, 1443165174145),
        ({"timestamp": "1443165174", "micro_timestamp": ""}, 1443165174000),
        ({"timestamp": 1443165174, "micro_timestamp": None}, 1443165174000),
        ({"timestamp": 0}, 0),
        ({"timestamp": ""}, None),
        ({"timestamp": None}, None),
        ({}, None),
        # .NET's and Java's "no date" is the year 1; before it there is no date at all.
        ({"timestamp": -62135596800}, -62135596800000),
        ({"timestamp": -99999999999}, None),
        ({"micro_timestamp": -99999999999999}, None),
    ],
)
def test_the_unit_of_a_time_is_told_by_its_magnitude(keys: dict[str, Any], unix_ms: int | None) -> None:
    assert values.unix_ms(record(**keys)) == unix_ms


@given(st.integers(min_value=10**8, max_value=4 * 10**9), st.integers(0, 999), st.integers(0, 999))
def test_one_moment_in_any_unit_is_the_same_moment(seconds: int, ms: int, us: int) -> None:
    # From March 1973 on (10^8 seconds); before it, milliseconds look like seconds.
    moment = seconds * 1000 + ms
    assert values.unix_ms(record(timestamp=seconds)) == seconds * 1000
    assert values.unix_ms(record(timestamp=seconds, micro_timestamp=moment)) == moment
    assert values.unix_ms(record(timestamp=moment, micro_timestamp=moment * 1000 + us)) == moment
    assert values.unix_ms(record(timestamp=str(moment), micro_timestamp=str(moment * 1000 + us))) == moment


@pytest.mark.parametrize(
    ("keys", "sender"),
    [
        ({"from": "Fortytwo"}, "Fortytwo"),
        ({"sms_from": "Fortytwo", "viber_from": ""}, "Fortytwo"),
        ({"sms_from": "", "viber_from": "Viber42"}, "Viber42"),
        ({"from": "", "sms_from": None, "viber_from": 4242}, "4242"),
        ({"from": None}, None),
        ({}, None),
    ],
)
def test_the_sender_stands_under_one_of_three_keys(keys: dict[str, Any], sender: str | None) -> None:
    assert values.sender(record(**keys)) == sender


@pytest.mark.parametrize("absent", [{}, {"error_code": None}, {"error_code": ""}])
def test_absent_null_and_empty_are_alike(absent: dict[str, Any]) -> None:
    read = record(**absent)
    assert values.integer(read.error_code) is None
    assert values.text(read.client_message_id) is None


@pytest.mark.parametrize(("given", "code"), [(943, 943), ("943", 943), (0, 0), ("0", 0), (-5, -5), ("-5", -5)])
def test_an_integer_may_come_as_digits(given: int | str, code: int) -> None:
    assert values.integer(record(error_code=given).error_code) == code


def test_an_id_given_as_a_number_beyond_64_bits_is_its_digits() -> None:
    callback = wire.read(b'{"data":[{"message_id":123456789012345678901234567890,"status":"SEEN"}]}', None)
    ((read, raw),) = callback.records
    assert isinstance(read, Record)
    assert str(read.message_id) == "123456789012345678901234567890"
    assert raw["message_id"] == 123456789012345678901234567890


def test_unknown_statuses_channels_and_keys_are_kept() -> None:
    body = (
        b'{"data":[{"message_id":"1","status":"READ","type":"RCS","price":{"eur":1.5}}],"account":7,"api_job_id":"j"}'
    )
    callback = wire.read(body, None)
    ((read, raw),) = callback.records
    assert isinstance(read, Record)
    assert (read.status, read.type) == ("READ", "RCS")
    assert raw == {"message_id": "1", "status": "READ", "type": "RCS", "price": {"eur": 1.5}}
    assert callback.extra == {"account": 7}


def test_a_bad_record_leaves_its_siblings() -> None:
    body = b"""{"data": [{"message_id": "1", "status": "DELIVRD"}, {"message_id": "2"}, 7,
                         {"message_id": "4", "status": "SEEN", "timestamp": 1e400},
                         {"message_id": "5", "status": "SEEN"}]}"""

    shape, callback = wire.check(body, None), wire.read(body, None)

    assert [str(read.message_id) for read, _ in callback.records if isinstance(read, Record)] == ["1", "5"]
    assert shape.records == 5
    assert shape.faults == (
        wire.Fault(1, "missing required key: $.data[1].status"),
        wire.Fault(2, "Expected object, got int: $.data[2]"),
        wire.Fault(3, "Number out of range: $.data[3]"),
    )
    assert callback.faults == shape.faults
    assert callback.unreadable == (
        b'{"data":[{"message_id": "2"},7,{"message_id": "4", "status": "SEEN", "timestamp": 1e400}]}'
    )


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"[]", "Expected object, got array: $"),
        (b"null", "Expected object, got null: $"),
        (b"7", "Expected object, got int: $"),
        (b"{}", "neither a status callback ($.data) nor a reply ($.reply_message_id): $"),
        (b'{"data":null}', "Expected array, got null: $.data"),
        (b'{"data":[]}', "Expected array of length >= 1: $.data"),
        (b'{"data":[{"message_id":"1"}]}', "missing required key: $.data[0].status"),
        (b'{"data":[{"status":"SEEN"}]}', "missing required key: $.data[0].message_id"),
        (b'{"data":[{"message_id":"1","status":""}]}', "Expected str of length >= 1: $.data[0].status"),
        (b'{"data":[{"message_id":"1","status":5}]}', "Expected str, got int: $.data[0].status"),
        (b'{"data":[{"message_id":"1","status":null}]}', "Expected str, got null: $.data[0].status"),
        (body_with(b'"timestamp":true'), "Expected int | str | null, got bool: $.data[0].timestamp"),
        (body_with(b'"timestamp":1.5'), "Expected int | str | null, got float: $.data[0].timestamp"),
        (body_with(b'"to":["35679000123"]'), "Expected int | str | null, got array: $.data[0].to"),
        (b'{"data":[{"message_id":"1","status":"A"}],"api_job_id":1.5}',
         "Expected int | str | null, got float: $.api_job_id"),
        (b'{"reply_message_id":""}', "Expected str of length >= 1: $.reply_message_id"),
        (b'{"reply_message_id":"1","message":"Hello"}', "Expected object | null, got str: $.message"),
        (b'{"reply_message_id":"1","message":{"text":5}}', "Expected str | null, got int: $.message.text"),
    ],
)  # fmt: skip
def test_what_is_not_the_documented_shape_is_told_with_its_path(body: bytes, error: str) -> None:
    assert check_error(body) == error


def test_a_callback_posted_where_the_other_kind_belongs_is_read_as_what_it_is() -> None:
    assert wire.check(REPLY, "status") == wire.check(REPLY, "reply")
    assert wire.read(STATUS, "reply") == wire.read(STATUS, "status")


def test_of_many_bad_records_the_first_three_are_told() -> None:
    error = check_error(b'{"data":[1,2,3,4,5]}')
    assert error.count("Expected object, got int") == 3
    assert error.endswith("and 2 more records")


@pytest.mark.parametrize(
    "number", [b"123456789012345678901234567890", b'"123456789012345678"', b"-1000000000000000000"]
)
def test_a_time_beyond_every_unit_is_a_fault(number: bytes) -> None:
    assert check_error(body_with(b'"timestamp":' + number)).endswith(": $.data[0].timestamp")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"data=1&status=2",
        b"<html>",
        STATUS[:-1],
        STATUS[: len(STATUS) // 2],
        STATUS + b" x",
        body_with(b'"x":NaN'),
        body_with(b'"x":Infinity'),
        body_with(b'"x":01'),
        body_with(b'"x":"\\q"'),
        body_with(b'"x":"\n"'),
        body_with(b'"x":"\xff"'),
        body_with(b'"x":"\xed\xa0\xbd"'),
        STATUS.decode().encode("utf-16"),
    ],
)
@pytest.mark.parametrize("kind", ["status", "reply", None])
def test_what_is_not_json_or_not_utf_8_is_told_apart(body: bytes, kind: Kind | None) -> None:
    with pytest.raises(NotJson):
        wire.check(body, kind)
    with pytest.raises(NotJson):
        wire.read(body, kind)


def test_what_is_not_utf_8_is_told_with_the_place() -> None:
    with pytest.raises(NotJson, match="invalid start byte at byte 6"):
        wire.check(b'{"a":"\xff"}', None)


@pytest.mark.parametrize("kind", ["status", None])
def test_a_byte_order_mark_is_passed_over(kind: Kind | None) -> None:
    assert wire.check(b"\xef\xbb\xbf" + STATUS, kind) == wire.Shape("status", 1)
    assert wire.read(b"\xef\xbb\xbf" + STATUS, kind) == wire.read(STATUS, kind)


@pytest.mark.parametrize("kind", ["status", "reply", None])
@pytest.mark.parametrize("nest", [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_without_end_is_refused_and_nothing_worse(kind: Kind | None, nest: tuple[bytes, bytes]) -> None:
    deep = body_with(b'"x":' + nest[0] * 100_000 + b"1" + nest[1] * 100_000)
    with pytest.raises((NotDocumented, NotJson)):
        wire.check(deep, kind)
    with pytest.raises((NotDocumented, NotJson)):
        wire.read(deep, kind)


@pytest.mark.parametrize("number", [b"1" * 5000, b"1e400", b"-1e999999999"])
def test_a_number_beyond_reason_is_a_fault_and_nothing_worse(number: bytes) -> None:
    body = body_with(b'"x":' + number)
    assert check_error(body).endswith("out of range: $.data[0]")


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (rb"cut off \ud83d", "cut off \ufffd"),
        (rb"\ude00 came alone", "\ufffd came alone"),
        (rb"\udc4b\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\\ud83d", r"\ud83d"),
        (rb"\uD83D\uDE00", "\U0001f600"),
    ],
)
def test_half_an_emoji_costs_that_character_and_no_more(escaped: bytes, text: str) -> None:
    body = b'{"reply_message_id":"1","message":{"text":"%s"}}' % escaped
    assert wire.check(body, "reply") == wire.Shape("reply", 1)
    reply = wire.read(body, None).envelope
    assert isinstance(reply, ReplyCallback)
    assert reply.message is not None
    assert reply.message.text == text


def test_a_record_nested_deeper_than_has_a_meaning_leaves_its_siblings() -> None:
    deep = b"[" * wire.MAX_DEPTH + b"]" * wire.MAX_DEPTH
    wide = b"[" + b",".join([b"[]"] * 1000) + b"]"
    body = b'{"data":[{"message_id":"1","status":"SEEN","x":%s},{"message_id":"2","status":"SEEN","x":%s}]}'
    callback = wire.read(body % (deep, wide), "status")
    assert [fault.error for fault in callback.faults] == ["nested deeper than 100: $.data[0]"]
    assert len(callback.records) == 1


def test_of_a_key_given_twice_the_last_counts() -> None:
    callback = wire.read(b'{"reply_message_id":"1","reply_message_id":"2"}', None)
    assert isinstance(callback.envelope, ReplyCallback)
    assert callback.envelope.reply_message_id == "2"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
keys = st.sampled_from(["message_id", "status", "type", "timestamp", "micro_timestamp", "to", "from", "error_code"])
reports = st.dictionaries(keys, json_values) | json_values


@given(st.lists(reports, max_size=5), st.dictionaries(st.text(), json_values, max_size=3))
def test_any_records_are_read_or_are_faults_each_for_itself(data: list[Any], around: dict[str, Any]) -> None:
    body = json.dumps({**around, "data": data}).encode("utf-8", "surrogatepass")
    try:
        callback = wire.read(body, None)
    except (NotJson, NotDocumented):
        return
    assert len(callback.records) + len(callback.faults) == len(data)
    assert wire.check(body, None) == wire.Shape("status", len(data), callback.faults)
    wrong = {fault.index for fault in callback.faults}
    assert [raw for _, raw in callback.records] == [item for i, item in enumerate(data) if i not in wrong]
    for read, _ in callback.records:
        assert isinstance(read, Record)
        values.unix_ms(read)
        values.integer(read.error_code)


@given(
    st.binary() | json_values.map(lambda value: json.dumps(value).encode()), st.sampled_from(["status", "reply", None])
)
def test_no_body_raises_anything_but_the_two_errors(body: bytes, kind: Kind | None) -> None:
    for look in (wire.check, wire.read):
        with contextlib.suppress(NotJson, NotDocumented):
            look(body, kind)


def test_an_unknown_key_that_cannot_be_read_costs_nobody_anything() -> None:
    body = b'{"data":[{"message_id":"1","status":"SEEN"}],"35679123456":1e999,"deep":%s}' % (b"[" * 200 + b"]" * 200)
    callback = wire.read(body, "status")
    assert len(callback.records) == 1
    assert callback.extra["35679123456"] == "1e999"


def test_what_stands_beside_the_records_does_not_multiply_with_them() -> None:
    records = b",".join([b'{"message_id":"1","status":"SEEN"}'] * 1000)
    callback = wire.read(b'{"data":[%s],"new":"%s"}' % (records, b"x" * 100_000), "status")
    assert (len(callback.records), callback.extra) == (1000, {})
    error = check_error(b'{"data":[%s],"client_job_id":"%s"}' % (records, b"x" * 100_000))
    assert error == "Expected str of length <= 1024: $.client_job_id"


def test_a_bundle_of_rubbish_is_given_up_on_as_a_whole() -> None:
    error = check_error(b'{"data":[{"message_id":"1","status":"SEEN"}%s]}' % (b",{}" * 100_000))
    assert error.startswith("more than 1000 records cannot be read: missing required key: $.data[1].message_id")


def test_the_envelope_s_texts_do_not_multiply_beyond_reason() -> None:
    records = b",".join([b'{"message_id":"1","status":"SEEN"}'] * 15_000)
    escaped = rb"\u0001" * 1000
    body = b'{"api_job_id":"%s","client_job_id":"%s","data":[%s]}' % (escaped, escaped, records)
    with pytest.raises(NotDocumented, match="too long for so many records"):
        wire.read(body, "status")
    gateway = b'{"api_job_id":"%s","client_job_id":"%s","data":[%s]}' % (b"a" * 36, b"b" * 255, records)
    assert len(wire.read(gateway, "status").records) == 15_000
